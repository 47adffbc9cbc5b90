//! Tests of wrong arguments, and of the definitions themselves.

use clap::CommandFactory as _;

use crate::faces::cli::*;

pub(super) fn args(line: &str) -> Vec<OsString> {
    std::iter::once("netd").chain(line.split(' ').filter(|word| !word.is_empty())).map(OsString::from).collect()
}

#[test]
fn the_definitions_hold_together_and_each_verb_shows_examples() {
    fn walk(command: &clap::Command, path: &str) {
        let help = command.clone().render_help().to_string();
        if command.get_subcommands().count() == 0 {
            assert!(help.contains("Example"), "{path} has no examples");
        }
        command.get_subcommands().for_each(|sub| walk(sub, &format!("{path} {}", sub.get_name())));
    }
    Cli::command().debug_assert();
    walk(&Cli::command(), "netd");
}

#[test]
fn wrong_usage_is_one_clear_line_and_code_2() {
    expect_misuse(&[
        ("", "a command is missing"),
        ("nonsense", "unrecognized subcommand 'nonsense'"),
        ("network", "netd: network: a command is missing: see `netd network -h`"),
        ("network create", "not provided: <NAME>: see `netd network create -h`"),
        ("network create a b", "unexpected argument 'b'"),
        ("network create a/b", "netd: network create: <NAME>: invalid network name \"a/b\""),
        ("network create n --subnet 10.0.0.5/24", "--subnet <CIDR>: invalid subnet \"10.0.0.5/24\": host bits are set"),
        ("network create n --subnet 10.0.0.0", "the prefix length is missing"),
        ("network create n --gateway x", "invalid gateway \"x\""),
        ("network create n --ip-range x", "invalid subnet \"x\""),
        ("network create n --mtu big", "invalid mtu \"big\""),
        ("network create n --driver overlay", "use bridge, macvlan, ipvlan or none"),
        ("network create n --label =x", "invalid label"),
        ("network create n -o mtu", "use KEY=VALUE"),
        ("network create n --nope", "unexpected argument '--nope'"),
        ("network rm", "not provided: <NAME>..."),
        ("backup", "not provided: <FILE>"),
        ("restore", "not provided: <FILE>"),
        ("network rm -x", "unexpected argument '-x'"),
        ("connect net1", "not provided: <CONTAINER>"),
        ("connect net1 a/b", "invalid container name \"a/b\""),
        ("connect a/b web", "invalid network name \"a/b\""),
        ("connect net1 web -p 80:80:80", "--publish <SPEC>: invalid port \"80:80:80\""),
        ("connect net1 web -p 99999:80", "\"99999\" is not a port"),
        ("connect net1 web -p 80/icmp", "use tcp, udp or sctp"),
        ("connect net1 web --ip 10.0.0.256", "invalid IP address \"10.0.0.256\""),
        ("connect net1 web --ip fd00::1", "give it as ip6"),
        ("connect net1 web --ip6 10.0.0.1", "give it as ip"),
        ("connect net1 web --mac 02:00", "invalid MAC address"),
        ("connect net1 web --alias a..b", "invalid DNS name"),
        ("connect net1 web --alias a.*", "as in *.app"),
        ("port", "not provided: <CONTAINER>"),
        ("port add web", "not provided: <SPEC>"),
        ("port add web 80:80:80", "invalid port \"80:80:80\""),
        ("port rm a/b 80", "invalid container name \"a/b\""),
        ("port rm web 4000:80 --network a/b", "invalid network name \"a/b\""),
        ("port web --drain", "unexpected argument '--drain'"),
        ("connect net1 web --expose http", "--expose <PORT>: invalid exposed port \"http\""),
        ("connect net1 web --label =x", "invalid label"),
        ("connect net1 web --ifname 0123456789abcdef", "invalid interface name"),
        ("connect net1 web --pid 0", "--pid <PID>: invalid process id \"0\""),
        ("connect net1 web --pid x", "--pid <PID>: invalid process id \"x\""),
        ("connect net1 web --pid 1 --netns /x", "cannot be used with"),
        ("run", "not provided: <COMMAND>..."),
        ("run --name a/b -- true", "invalid container name"),
        ("status --wait soon", "--wait <SECONDS>: invalid number of seconds \"soon\""),
        ("completions klingon", "invalid value 'klingon'"),
        ("config check", "not provided: <FILE>"),
        ("ps --jsn", "unexpected argument '--jsn' found, maybe `--json`: see `netd ps -h`"),
        ("networks", "unrecognized subcommand 'networks', maybe `network`: see `netd -h`"),
        ("--wait abc", "unexpected argument '--wait' found, maybe `netd status --wait`: see `netd -h`"),
        ("dns log", "netd: dns log: a command is missing: see `netd dns log -h`"),
        ("help nonsense", "unrecognized subcommand 'nonsense'"),
        ("ps --socket", "a value is required for '--socket <PATH>'"),
    ]);
}

#[test]
fn wrong_usage_of_reservations_is_one_clear_line_and_code_2() {
    expect_misuse(&[
        ("connect net1 web --reservation a/b", "--reservation <ID>: invalid reservation id \"a/b\""),
        ("connect net1 web --reservation r1 -p 80", "cannot be used with"),
        ("connect net1 web --reservation r1 --ip 10.0.0.5", "cannot be used with"),
        ("disconnect net1 web --keep a/b", "--keep <ID>: invalid reservation id \"a/b\""),
        ("reservation", "netd: reservation: a command is missing: see `netd reservation -h`"),
        ("reservation create net1", "not provided: <ID>: see `netd reservation create -h`"),
        ("reservation create net1 a/b", "<ID>: invalid reservation id \"a/b\""),
        ("reservation create net1 r1 --mac 02:00", "invalid MAC address"),
        ("reservation rm", "not provided: <ID>..."),
        ("reservation ls --network a/b", "invalid network name \"a/b\""),
    ]);
}

/// Each line is refused with these words.
pub(super) fn expect_misuse(lines: &[(&str, &str)]) {
    for (line, words) in lines {
        let misuse = parse(args(line)).expect_err(line);
        let first = misuse.text.lines().next().unwrap();
        assert!(first.starts_with("netd: ") && first.contains(words), "{line}\n{first}");
        assert!(misuse.text.lines().count() == 1 && first.contains(": see `netd"), "{line}\n{}", misuse.text);
        assert_eq!((misuse.code, misuse.help.is_empty()), (2, !line.is_empty()), "{line}");
        assert!(!misuse.text.contains("error:") && misuse.text.ends_with('\n'), "{line}\n{}", misuse.text);
    }
}

#[test]
fn help_and_version_are_what_was_asked_for() {
    for line in ["-h", "--help", "network create -h", "connect --help", "--version", "help network"] {
        let misuse = parse(args(line)).expect_err(line);
        assert!(misuse.code == 0 && misuse.text.is_empty() && !misuse.help.is_empty(), "{line}");
    }
}

#[test]
fn the_command_of_a_run_keeps_its_own_flags() {
    for line in ["run --name a -p 80 -- sh -c -h", "run --name a -p 80 sh -c -h"] {
        let Verb::Client(ClientVerb::Run(run)) = parse(args(line)).unwrap().verb else { panic!("{line}") };
        assert_eq!((run.command, run.name.as_deref()), (args("sh -c -h").split_off(1), Some("a")), "{line}");
    }
}

#[test]
fn the_socket_can_stand_anywhere() {
    for line in ["--socket /x ps", "ps --socket /x", "network --socket /x ls"] {
        assert_eq!(parse(args(line)).unwrap().socket(), PathBuf::from("/x"));
    }
}
