//! A template: read once, then executed for each object.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gotmpl::parse::{Expr, ListNode, Node, Parser};
use gotmpl::{TemplateError, Value};

use super::data::Data;
use super::functions::{WORK_MAX, functions, known};
use super::rewrite::rewrite;

/// The length of a template in bytes.
const SOURCE_MAX: usize = 64 << 10;
/// How often `else` may occur: the parser goes one level deeper for each `else if`, and counts other levels only.
const ELSE_MAX: usize = 100;
/// The length of what a template prints for one object, in bytes.
const OUTPUT_MAX: usize = 64 << 20;
/// An action that is appended to see where the parser ends: it takes an `{{end}}` too many for the end of the text.
const SENTINEL: &str = "the_end_of_the_template";

/// A template that has been read.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// The trees by name. The template itself has none.
    trees: Vec<(String, ListNode)>,
}

impl Template {
    /// Reads a template. The error is one line.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_MAX {
            return Err(format!("template: it is longer than {SOURCE_MAX} bytes"));
        }
        if source.matches("else").count() > ELSE_MAX {
            return Err(format!("template: it has more than {ELSE_MAX} times else"));
        }
        let (tree, defines) = read(source)?;
        if !ends(source) {
            return Err("template: :1: unexpected EOF, {{end}} or {{else}}".into());
        }
        let mut trees = Vec::new();
        for define in defines {
            let name = define.name.to_string();
            if trees.iter().any(|(other, _)| *other == name) {
                return Err(format!("template: :{}: multiple definition of template {name:?}", define.pos.line));
            }
            let tree = rewrite(define.body, source, &name, &known)?;
            trees.push((name, tree));
        }
        trees.push((String::new(), rewrite(tree, source, "", &known)?));
        Ok(Self { trees })
    }

    /// One line for each object.
    pub(super) fn lines(&self, data: Data) -> Result<String, String> {
        let data = Arc::new(data);
        let engine = self.engine(&data, false);
        let mut out = String::new();
        for object in data.objects() {
            out.push_str(&engine.run(object).map_err(|(_, why)| why)?);
            out.push('\n');
        }
        Ok(out)
    }

    /// The titles of the columns, and one line for each object. Cells end with tabs.
    pub(super) fn table(&self, data: Data) -> Result<String, String> {
        let data = Arc::new(data);
        // As with Docker, the titles end where the template does what titles cannot, such as a loop.
        let titles = self.engine(&data, true).run(&Value::Nil).unwrap_or_else(|(text, _)| text);
        let engine = self.engine(&data, false);
        let mut out = format!("{titles}\n");
        for object in data.objects() {
            out.push_str(&engine.run(object).map_err(|(_, why)| why)?);
            out.push('\n');
        }
        Ok(out)
    }

    fn engine(&self, data: &Arc<Data>, header: bool) -> Engine {
        let work = Arc::new(AtomicU64::new(0));
        let template = gotmpl::Template::new("").funcs(functions(data, header, &work)).max_range_iters(WORK_MAX);
        let add =
            |template: gotmpl::Template, (name, tree): &(String, ListNode)| template.add_parse_tree(name, tree.clone());
        Engine { template: self.trees.iter().fold(template, add), work }
    }
}

/// What executes a template.
struct Engine {
    template: gotmpl::Template,
    /// The work done for the object.
    work: Arc<AtomicU64>,
}

impl Engine {
    /// What the template prints for the object. An error comes with what was printed before it.
    fn run(&self, object: &Value) -> Result<String, (String, String)> {
        self.work.store(0, Ordering::Relaxed);
        let mut out = Bounded(String::new());
        match self.template.execute_template_fmt(&mut out, "", object) {
            Ok(()) => Ok(out.0),
            Err(error) => Err((out.0, explain(&error))),
        }
    }
}

/// A text that does not grow without end.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > OUTPUT_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn read(source: &str) -> Result<(ListNode, Vec<gotmpl::parse::DefineNode>), String> {
    let parsed = Parser::new(source, "{{", "}}").and_then(Parser::parse);
    parsed.map_err(|error| match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            format!("template: :{}: {message}", line.max(1))
        }
        other => explain(&other),
    })
}

/// Whether the template ends where its text does.
fn ends(source: &str) -> bool {
    let mut longer = source.to_owned();
    let _ = write!(longer, "{{{{{SENTINEL}}}}}");
    let Ok((tree, _)) = read(&longer) else { return false };
    let Some(Node::Action(last)) = tree.nodes.last() else { return false };
    let first = last.pipe.commands.first().and_then(|command| command.args.first());
    matches!(first, Some(Expr::Identifier(_, name)) if name == SENTINEL)
}

fn explain(error: &TemplateError) -> String {
    let text = match error {
        TemplateError::Exec(text) => text.clone(),
        TemplateError::Write => format!("it prints more than {OUTPUT_MAX} bytes for one object"),
        TemplateError::RangeIterLimit => format!("its loops run more than {WORK_MAX} times for one object"),
        TemplateError::RecursionLimit => "its parts are nested too deeply".into(),
        TemplateError::UndefinedTemplate(name) => format!("template {name:?} not defined"),
        other => other.to_string(),
    };
    match text.starts_with("template: ") {
        true => text,
        false => format!("template: {text}"),
    }
}
