//! `${VARIABLE}` in a compose file (docker/cli, cli/compose/template).

use serde_json::Value;

/// The value of a variable of the environment.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables in all texts below. `place` is where they are.
pub(super) fn below(value: &mut Value, place: &str, variables: Variables<'_>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            *text = expand(text, variables).map_err(|bad| match bad {
                Bad::Format => format!(
                    "invalid interpolation format for {place}: {text:?}; you may need to escape any $ with another $"
                ),
                Bad::Missing(why) => format!("invalid interpolation format for {place}: {why}"),
            })?;
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| below(item, &format!("{place}.[]"), variables)),
        Value::Object(fields) => {
            fields.iter_mut().try_for_each(|(key, value)| below(value, &format!("{place}.{key}"), variables))
        }
        _ => Ok(()),
    }
}

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
enum Bad {
    Format,
    Missing(String),
}

fn expand(text: &str, variables: Variables<'_>) -> Result<String, Bad> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inner, after) = braced(after).ok_or(Bad::Format)?;
            expanded.push_str(&one(inner, variables)?);
            rest = after;
        } else {
            let (name, after) = after.split_at(name_length(after));
            if name.is_empty() {
                return Err(Bad::Format);
            }
            expanded.push_str(&variables(name).unwrap_or_default());
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What is between the braces, of which the opening one has been read, and what follows.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let fits = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    text.char_indices().find(|found| !fits(*found)).map_or(text.len(), |(at, _)| at)
}

/// `NAME`, or `NAME` with an operator and what belongs to it.
fn one(inner: &str, variables: Variables<'_>) -> Result<String, Bad> {
    let (name, rest) = inner.split_at(name_length(inner));
    if name.is_empty() {
        return Err(Bad::Format);
    }
    let value = variables(name);
    let (operator, word) = match rest.strip_prefix(':') {
        Some(rest) => (rest.chars().next(), rest.get(1..).unwrap_or_default()),
        None => (rest.chars().next(), rest.get(1..).unwrap_or_default()),
    };
    // With a colon, an empty value counts as none.
    let value = value.filter(|value| !rest.starts_with(':') || !value.is_empty());
    match (operator, value) {
        (None, value) if rest.is_empty() => Ok(value.unwrap_or_default()),
        (Some('-' | '?'), Some(value)) => Ok(value),
        (Some('-'), None) => expand(word, variables),
        (Some('?'), None) => {
            Err(Bad::Missing(format!("required variable {name} is missing a value: {}", expand(word, variables)?)))
        }
        (Some('+'), Some(_)) => expand(word, variables),
        (Some('+'), None) => Ok(String::new()),
        _ => Err(Bad::Format),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        [("TAG", "1.2"), ("EMPTY", "")].into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }

    #[test]
    fn variables_have_the_operators_of_docker() {
        for (text, expected) in [
            ("lab:${TAG}", "lab:1.2"),
            ("lab:$TAG-x", "lab:1.2-x"),
            ("$${TAG}", "${TAG}"),
            ("${NONE}", ""),
            ("${NONE:-a}${EMPTY:-b}${EMPTY-c}${NONE-d}${TAG:-e}", "abd1.2"),
            ("${NONE:-${TAG}}", "1.2"),
            ("${TAG:?no}${EMPTY?no}", "1.2"),
            ("${TAG:+set}${EMPTY:+set}${EMPTY+there}", "setthere"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text, &variable), Ok(expected.into()), "{text}");
        }
        for text in ["$", "${", "${}", "${1A}", "${TAG", "a $ b", "${TAG=x}", "${TAG:"] {
            assert_eq!(expand(text, &variable), Err(Bad::Format), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        let why = |text: &str| below(&mut json!({"web": {"image": text}}), "services", &variable).unwrap_err();
        assert_eq!(
            why("${NONE:?say which}"),
            "invalid interpolation format for services.web.image: required variable NONE is missing a value: say which"
        );
        assert_eq!(
            why("${"),
            "invalid interpolation format for services.web.image: \"${\"; you may need to escape any $ with another $"
        );
    }
}
