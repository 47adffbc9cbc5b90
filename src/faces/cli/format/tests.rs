//! Tests of `--format`: what templates print, and what is wrong with others.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::*;

/// An object with what the published JSON has: fields that are left out, labels, objects within.
#[derive(Serialize, ToSchema)]
struct Thing {
    name: String,
    host_port: u16,
    open: bool,
    subnets: Vec<Inner>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reservations: Vec<String>,
    host_ip: Option<String>,
    list: Vec<String>,
    #[serde(flatten)]
    more: More,
}

#[derive(Serialize, ToSchema)]
struct More {
    weight: u64,
}

#[derive(Serialize, ToSchema)]
struct Inner {
    subnet: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    range: String,
}

fn thing() -> Thing {
    let subnet = |subnet: &str| Inner { subnet: subnet.into(), range: String::new() };
    Thing {
        name: "net one".into(),
        host_port: 4000,
        open: true,
        subnets: vec![subnet("10.1.0.0/24"), subnet("fd00::/64")],
        labels: [("a".into(), "1".into()), ("Tier".into(), "<front>".into())].into(),
        owner: None,
        reservations: Vec::new(),
        host_ip: None,
        list: vec!["x".into(), "y".into()],
        more: More { weight: u64::MAX },
    }
}

fn objects() -> Data {
    let mut data = Data::default();
    data.object::<Thing>(&serde_json::to_value(thing()).unwrap());
    data
}

fn rows() -> Data {
    let mut data = Data::default();
    for (id, name) in [("0123456789ab", "net1"), ("ba9876543210", "a-network")] {
        let fields = vec![("ID", "NETWORK ID", id.to_owned()), ("Name", "NAME", name.to_owned())];
        data.row(Row { kind: "network", fields, labels: [("com.example.the-team".into(), "red".into())].into() });
    }
    data
}

/// What is printed, or the line of the error.
fn print(format: &str, data: Data) -> Result<String, String> {
    let spec = Spec::parse(format).map_err(|bad| bad.to_string())?;
    let mut out = Vec::new();
    match spec.print(&mut out, "list", data) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(Failure::Failed(why)) => {
            assert!(out.is_empty(), "{format}: nothing is printed before an error");
            Err(why)
        }
        Err(other) => panic!("{format}: {other:?}"),
    }
}

#[test]
fn a_template_prints_what_go_prints() {
    for (template, expected) in [
        ("{{.name}}", "net one"),
        ("{{.Name}} {{.NAME}}", "net one net one"),
        ("{{.host_port}} {{.HostPort}} {{.Hostport}}", "4000 4000 4000"),
        ("{{.Weight}} {{.Open}}", "18446744073709551615 true"),
        ("{{.subnets}}", "[map[subnet:10.1.0.0/24] map[subnet:fd00::/64]]"),
        ("{{(index .Subnets 0).Subnet}}", "10.1.0.0/24"),
        ("{{range .Subnets}}{{.Subnet}} {{end}}", "10.1.0.0/24 fd00::/64 "),
        ("{{range $i, $s := .Subnets}}{{$i}}={{$s.Subnet}};{{end}}", "0=10.1.0.0/24;1=fd00::/64;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "Tier=<front> a=1 "),
        ("{{range .Reservations}}x{{else}}none{{end}}", "none"),
        ("{{index .Labels \"a\"}}|{{.Labels.a}}|{{index .Labels \"b\"}}|{{.Labels.b}}", "1|1||<no value>"),
        ("{{.Labels.tier}}", "<no value>"),
        ("{{.Owner}} {{.HostIP}} {{.Reservations}} [{{(index .Subnets 1).Range}}]", "<no value> <no value> [] []"),
        ("{{.Owner.Name}}", "<no value>"),
        ("{{json .Labels}}", r#"{"Tier":"<front>","a":"1"}"#),
        ("{{json .list}} {{json .HostIp}} {{json .name}}", r#"["x","y"] null "net one""#),
        ("{{.Labels | json}}", r#"{"Tier":"<front>","a":"1"}"#),
        ("{{join .List \", \"}}|{{join .Labels \"-\"}}|{{join .Owner \",\"}}", "x, y|1-<front>|"),
        ("{{split .Name \" \"}} {{index (split .Name \" \") 1}}", "[net one] one"),
        ("{{lower \"ABC\"}} {{upper .Name}} {{title .Name}}", "abc NET ONE Net One"),
        ("[{{pad .Name 1 2}}] [{{pad \"\" 1 2}}]", "[ net one  ] []"),
        ("{{truncate .Name 3}} {{truncate \"ab\" 5}} {{truncate \"né\" 2}}", "net ab n"),
        ("{{println .HostPort .Open}}.", "4000 true\n."),
        ("{{print \"a\" 1 2 \"b\"}} {{print .Owner}}", "a1 2b <nil>"),
        (
            "{{printf \"%-8s|%5d|%q|%v|%t|%05.1f\" .Name .HostPort .Name .list .Open 2.25}}",
            "net one | 4000|\"net one\"|[x y]|true|002.2",
        ),
        ("{{printf \"%s\\t%s\" .Name \"x\"}}", "net one\tx"),
        ("{{len .Name}} {{len .Subnets}} {{len .Labels}}", "7 2 2"),
        ("{{if .Open}}yes{{else}}no{{end}} {{if .Reservations}}yes{{else if .Owner}}mine{{else}}no{{end}}", "yes no"),
        ("{{with .Name}}{{.}}{{end}}{{with .Owner}}x{{else}}nobody{{end}}", "net onenobody"),
        ("{{with $x := index .Subnets 0}}{{$x.Subnet}} {{$.Name}}{{end}}", "10.1.0.0/24 net one"),
        ("{{if and .Open (eq .HostPort 4000) (not .Owner)}}a{{end}}{{if or .Owner .Reservations}}b{{end}}", "a"),
        (
            "{{eq .Name \"a\" \"net one\"}} {{ne .Name \"a\"}} {{lt 1 2}} {{gt 1.5 2.5}} {{le 2 2}} {{ge 1 2}}",
            "true true true false true false",
        ),
        ("{{$n := .Name}}{{$n}} {{$n = \"b\"}}{{$n}}", "net one b"),
        ("{{.Name | printf \"%s-%s\" \"a\" | upper}}", "A-NET ONE"),
        ("{{range .List}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}", "x"),
        ("{{range .List}}{{if eq . \"x\"}}{{continue}}{{end}}{{.}}{{end}}", "y"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("a {{- .Name -}} b", "anet oneb"),
        ("{{/* nothing */}}a", "a"),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}", "<net one>"),
        ("{{slice .Name 0 3}} {{html \"<\"}}", "net &lt;"),
        ("1\\t2\\n3 {{\"a\\tb}}\\\\n\"}} {{`\\t`}}", "1\t2\n3 a\tb}}\\n \\t"),
        ("  {{.Name}}  ", "net one"),
        ("plain", "plain"),
        ("{{1}} {{1.5}} {{0x10}} {{'a'}} {{1e3}} {{true}}", "1 1.5 16 97 1000 true"),
    ] {
        assert_eq!(print(template, objects()), Ok(format!("{expected}\n")), "{template}");
    }
}

#[test]
fn json_of_an_object_is_what_json_prints() {
    let expected = serde_json::to_value(thing()).unwrap();
    for format in ["json", "{{json .}}"] {
        let line = print(format, objects()).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
    }
    assert_eq!(print("json", rows()).unwrap().lines().next(), Some(r#"{"ID":"0123456789ab","Name":"net1"}"#));
}

#[test]
fn what_is_wrong_with_a_template_is_told_in_one_line() {
    for (template, words) in [
        ("{{", "template parsing error: template: :1: "),
        ("{{.Name", "unclosed action"),
        ("{{.Name}", "template parsing error: template: :1: "),
        ("{{}}", "template parsing error: template: :1: "),
        ("{{nope .}}", "template parsing error: template: :1: function \"nope\" not defined"),
        ("a\n{{print (nope)}}", "template: :2: function \"nope\" not defined"),
        ("{{if .Name}}x", "unexpected EOF"),
        ("{{range .List}}{{.}}", "unexpected EOF"),
        ("x{{end}}y", "unexpected EOF, {{end}}"),
        ("x{{else}}y", "unexpected EOF, {{end}}"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{$x = 1}}", "undefined variable \"$x\""),
        ("{{if .Name}}{{$x := 1}}{{end}}{{$x}}", "undefined variable \"$x\""),
        ("{{nil}}", "nil is not a command"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{.Name | }}", "template parsing error: template: :1: "),
        ("{{\"a}}", "template parsing error: template: :1: "),
        ("{{(.Name}}", "template parsing error: template: :1: "),
        ("table {{nope}}", "template parsing error: template: :1: function \"nope\" not defined"),
    ] {
        let bad = Spec::parse(template).map(|spec| format!("{spec:?}")).map_err(|bad| bad.to_string()).unwrap_err();
        assert!(bad.contains(words) && bad.lines().count() == 1, "{template}: {bad}");
    }
    assert!(Spec::parse_line("table {{.Name}}").is_err());
    assert!(Spec::parse(&"{{if 1}}{{else}}{{end}}".repeat(200)).is_err());
    assert!(Spec::parse(&"x".repeat(100_000)).is_err());
    for deep in [format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000)), "{{if 1}}".repeat(8_000)] {
        assert!(Spec::parse(&deep).is_err());
    }
}

#[test]
fn what_does_not_fit_the_objects_is_told_in_one_line() {
    for (template, words) in [
        ("{{.Nope}}", "list: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type Thing"),
        (
            "a\nb {{.Name.Nope}}",
            "template: :2:4: executing \"\" at <.Name.Nope>: can't evaluate field Nope in type string",
        ),
        ("{{(index .Subnets 0).Nope}}", "can't evaluate field Nope in type Inner"),
        ("{{range .Subnets}}{{$.Nope}}{{end}}", "at <$.Nope>: can't evaluate field Nope in type Thing"),
        ("{{.Name \"x\"}}", "Name has arguments but cannot be invoked as function"),
        ("{{index .Subnets 5}}", "list: template: index out of range: 5"),
        ("{{lower 5}}", "wrong type for value; expected string; got int"),
        ("{{lower .Owner}}", "invalid value; expected string"),
        ("{{range .HostPort}}{{end}}{{range .Name}}{{end}}", "cannot range over string"),
        ("{{len 3}}", "len"),
        ("{{join .Name \",\"}}", "expected slice, got string"),
        ("{{pad .Name -1 0}}", "bad length -1"),
        ("{{json}}", "wrong number of args"),
        ("{{lt .Name 1}}", "template: "),
        ("{{template \"t\"}}", "template \"t\" not defined"),
    ] {
        let bad = print(template, objects()).expect_err(template);
        assert!(bad.contains(words) && bad.lines().count() == 1, "{template}: {bad}");
    }
    let bad = print("{{.Label}}", rows()).unwrap_err();
    assert!(bad.contains("wrong number of args for Label: want 1 got 0"), "{bad}");
    let bad = print("{{.Nope}}", rows()).unwrap_err();
    assert_eq!(bad, "list: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type network");
}

#[test]
fn no_template_works_without_end() {
    let nested: String = (0..60)
        .map(|n| format!("{{{{define \"t{n}\"}}}}{{{{template \"t{0}\"}}}}{{{{template \"t{0}\"}}}}{{{{end}}}}", n + 1))
        .collect();
    for (template, words) in [
        ("{{range 100000000000}}{{end}}", "loops run more than"),
        ("{{range 10000}}{{range 10000}}{{range 10000}}{{end}}{{end}}{{end}}", "loops run more than"),
        ("{{$s := \"x\"}}{{range 100}}{{$s = print $s $s}}{{end}}", "a value is longer than"),
        ("{{$s := \"x\"}}{{range 22}}{{$s = print $s $s}}{{end}}{{range 1000}}{{$s}}{{end}}", "it prints more than"),
        ("{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}", "nested too deeply"),
        (&format!("{nested}{{{{define \"t60\"}}}}{{{{end}}}}{{{{template \"t0\"}}}}"), "it takes more than"),
        (
            "{{define \"r\"}}{{if lt (len .) 90}}{{template \"r\" (print . \"x\")}}{{template \"r\" (print . \"x\")}}{{end}}\
            {{end}}{{template \"r\" \"\"}}",
            "it takes more than",
        ),
        ("{{pad \"x\" 999999999999 0}}", "bad length"),
    ] {
        let bad = print(template, objects()).expect_err(template);
        assert!(bad.contains(words) && bad.lines().count() == 1, "{template}: {bad}");
    }
    assert!(print("{{printf \"%999999999d\" 1}}", objects()).unwrap().len() < 100_000);
}

#[test]
fn a_table_has_titles_and_aligned_columns() {
    for (format, expected) in [
        ("table {{.ID}}\\t{{.Name}}", "NETWORK ID     NAME\n0123456789ab   net1\nba9876543210   a-network\n"),
        (
            "table {{.Name}}\t{{upper .ID}}",
            "NAME        NETWORK ID\nnet1        0123456789AB\na-network   BA9876543210\n",
        ),
        (
            "table {{.Name}}\\t{{.Label \"com.example.the-team\"}}",
            "NAME        the team\nnet1        red\na-network   red\n",
        ),
        ("table{{\"com.example.the-team\" | .Label}}", "the team\nred\nred\n"),
    ] {
        assert_eq!(print(format, rows()).as_deref(), Ok(expected), "{format}");
    }
    let table = "table {{.HostPort}}\\t{{(index .Subnets 0).Subnet}}\\t{{join .list \",\"}}\\t{{.host_port}}";
    let expected = "HOST PORT   SUBNET        LIST      HOST PORT\n4000        10.1.0.0/24   x,y       4000\n";
    assert_eq!(print(table, objects()).as_deref(), Ok(expected));
    assert_eq!(
        print("table {{.Name}}\\t{{range .list}}{{.}}{{end}}", objects()).as_deref(),
        Ok("NAME\nnet one   xy\n")
    );
    for default in ["", "table", "table  "] {
        assert!(Spec::parse(default).unwrap().is_default(), "{default}");
    }
}

/// Of what random templates are made.
const PARTS: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    ".Name",
    ".",
    "$",
    "$x",
    ":=",
    "=",
    "|",
    "(",
    ")",
    "range",
    "if",
    "else",
    "end",
    "with",
    "define",
    "template",
    "block",
    "break",
    "\"a\"",
    "`",
    "\"",
    "'",
    "index",
    ".Subnets",
    "0",
    "-1",
    " ",
    "printf",
    "\"%*d%[3]v%!\"",
    "nil",
    "join",
    "truncate",
    "é",
    "/*",
    "*/",
    ",",
    "\\t",
    "\n",
    "len",
    "slice",
    "1e99",
];

/// Whatever a template is, it is read and executed, or refused with one line.
#[test]
fn no_template_panics() {
    let mut seed = 7_u64;
    let mut next = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut text: String = (0..=next(12)).map(|_| PARTS[next(PARTS.len())]).collect();
        if next(2) == 0 {
            text = format!("{{{{{text}}}}}");
        }
        if let Err(bad) = print(&text, objects()) {
            assert!(!bad.contains("panicked"), "{text}: {bad}");
        }
    }
    assert_eq!(print("{{.Name}}", objects()).as_deref(), Ok("net one\n"));
}
