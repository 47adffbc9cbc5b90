//! The command line, as Podman writes it for netavark.

use std::ffi::OsString;
use std::path::PathBuf;

use super::failure::Failure;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Setup {
        netns: String,
    },
    Teardown {
        netns: String,
    },
    Update {
        network: String,
        servers: Vec<String>,
    },
    Create,
    Version,
    /// `--version`
    Name,
    Info,
    /// netd repairs its own firewall table: there is nothing to do.
    Reload,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) command: Command,
    /// Where the input is, if not on standard input.
    pub(super) file: Option<PathBuf>,
    /// Podman without root calls netavark in a network namespace of its own.
    pub(super) rootless: bool,
}

/// Flags whose values netd does not need, long and short.
const IGNORED: [(&str, &str); 4] =
    [("--config", "-c"), ("--aardvark-binary", "-a"), ("--plugin-directory", ""), ("--firewall-driver", "")];

/// Reads the arguments after the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Result<Arguments, Failure> {
    let mut words = Vec::new();
    for argument in arguments {
        let word = argument.to_str().ok_or_else(|| Failure(format!("argument {argument:?} is not UTF-8")))?;
        words.push(word);
    }
    let (mut file, mut rootless, mut servers, mut name) = (None, false, None, false);
    let mut plain: Vec<&str> = Vec::new();
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        let (flag, joined) = split(word);
        let mut value =
            || joined.or_else(|| rest.next()).ok_or_else(|| Failure(format!("the value of {flag} is missing")));
        match flag {
            _ if !word.starts_with('-') || word == "-" => plain.push(word),
            "--file" | "-f" => file = Some(PathBuf::from(value()?)),
            "--rootless" | "-r" => {
                let given = value()?;
                let wrong = || Failure(format!("--rootless {given:?}: use true or false"));
                rootless = given.parse().map_err(|_| wrong())?;
            }
            "--network-dns-servers" => {
                let given = value()?.split(',').filter(|server| !server.is_empty()).map(str::to_owned);
                servers.get_or_insert_with(Vec::new).extend(given);
            }
            "--version" | "-V" | "--help" | "-h" => name = true,
            _ if IGNORED.iter().any(|(long, short)| flag == *long || flag == *short) => drop(value()?),
            _ => return Err(Failure(format!("unknown flag {word:?}"))),
        }
    }
    let command = if name { Command::Name } else { command(&plain, servers)? };
    Ok(Arguments { command, file, rootless })
}

/// A flag, and its value if that is in the same word: `--file=x`, `-fx`, `-f=x`.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
    }
    match word.split_at_checked(2) {
        Some((flag, value)) if word.starts_with('-') && !value.is_empty() => {
            (flag, Some(value.strip_prefix('=').unwrap_or(value)))
        }
        _ => (word, None),
    }
}

fn command(plain: &[&str], servers: Option<Vec<String>>) -> Result<Command, Failure> {
    match *plain {
        ["setup", netns] if !netns.is_empty() => Ok(Command::Setup { netns: netns.to_owned() }),
        ["teardown", netns] if !netns.is_empty() => Ok(Command::Teardown { netns: netns.to_owned() }),
        ["setup" | "teardown", ..] => Err(Failure(format!("{}: give the path of one network namespace", plain[0]))),
        ["update", network] => {
            let servers = servers.ok_or_else(|| Failure::new("update: --network-dns-servers is missing"))?;
            Ok(Command::Update { network: network.to_owned(), servers })
        }
        ["update", ..] => Err(Failure::new("update: give the name of one network")),
        ["create"] => Ok(Command::Create),
        ["version"] => Ok(Command::Version),
        ["info"] | [] => Ok(Command::Info),
        ["firewalld-reload" | "firewall-reload"] => Ok(Command::Reload),
        ["dhcp-proxy", ..] => {
            Err(Failure::new("dhcp-proxy: the daemon of netd asks DHCP servers itself: it needs no proxy"))
        }
        [other, ..] => Err(Failure(format!(
            "unknown command {other:?}: use setup, teardown, update, create, version, info or firewalld-reload"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, Failure> {
        parse(&line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_lines_of_podman_are_read() {
        let setup = "--config /run/containers/networks --rootless=false --aardvark-binary= setup /run/netns/a";
        let expected = Command::Setup { netns: "/run/netns/a".into() };
        assert_eq!(read(setup).unwrap(), Arguments { command: expected, file: None, rootless: false });
        let file = read("-f=in.json --plugin-directory /usr/libexec/netavark teardown /proc/7/ns/net").unwrap();
        assert_eq!(file.file, Some("in.json".into()));
        assert_eq!(file.command, Command::Teardown { netns: "/proc/7/ns/net".into() });
        assert!(read("--rootless true setup x").unwrap().rootless);
        let servers = |line| match read(line).unwrap().command {
            Command::Update { servers, .. } => servers,
            other => panic!("{other:?}"),
        };
        assert_eq!(servers("update net1 --network-dns-servers 1.1.1.1,9.9.9.9"), ["1.1.1.1", "9.9.9.9"]);
        assert_eq!(servers("update net1 --network-dns-servers="), [""; 0]);
        assert_eq!(read("").unwrap().command, Command::Info);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, named) in [
            ("set", "unknown command \"set\""),
            ("setup", "network namespace"),
            ("setup a b", "network namespace"),
            ("--fil x setup a", "unknown flag \"--fil\""),
            ("--file", "the value of --file"),
            ("--rootless=maybe setup x", "--rootless \"maybe\""),
            ("update net1", "--network-dns-servers"),
            ("dhcp-proxy", "DHCP"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.0.contains(named), "{line}: {error:?}");
        }
    }
}
