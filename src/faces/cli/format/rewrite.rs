//! The tree of a template as it is executed: what Go refuses when it parses is refused here, and each access to a field
//! becomes a call of netd's own function, which finds fields by their types and says where one is missing.

use gotmpl::Value;
use gotmpl::parse::{ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr};

/// The function that finds a field: place, number of names, value, names, arguments. No template can name it.
pub(super) const FIELD: &str = " field";
/// The function that counts each step, and passes on what it gets; it prints nothing by itself.
pub(super) const STEP: &str = " step";

/// Rewrites the tree of one template. `name` is that of the template, `known` tells which functions there are. The
/// error is that of a template that Go does not parse.
pub(super) fn rewrite(
    list: ListNode,
    source: &str,
    name: &str,
    known: &dyn Fn(&str) -> bool,
) -> Result<ListNode, String> {
    Rewriter { source, name, known, variables: vec!["$".into()], loops: 0 }.list(list)
}

struct Rewriter<'a> {
    source: &'a str,
    name: &'a str,
    known: &'a dyn Fn(&str) -> bool,
    /// The variables that are declared here, outermost first.
    variables: Vec<SmolStr>,
    loops: usize,
}

impl Rewriter<'_> {
    fn list(&mut self, list: ListNode) -> Result<ListNode, String> {
        let mut nodes = Vec::with_capacity(list.nodes.len());
        for node in list.nodes {
            if let Node::Template(template) = &node {
                // Templates that call others twice double the work with each level.
                let step = piped(template.pos, vec![Expr::Identifier(template.pos, STEP.into())]);
                nodes.push(Node::Action(ActionNode { pos: template.pos, pipe: step }));
            }
            nodes.push(self.node(node)?);
        }
        Ok(ListNode { pos: list.pos, nodes })
    }

    fn node(&mut self, node: Node) -> Result<Node, String> {
        Ok(match node {
            Node::List(list) => Node::List(self.list(list)?),
            Node::Action(action) => Node::Action(ActionNode { pos: action.pos, pipe: self.pipe(action.pipe)? }),
            Node::If(branch) => Node::If(self.branch(branch, false)?),
            Node::With(branch) => Node::With(self.branch(branch, false)?),
            Node::Range(branch) => Node::Range(self.branch(branch, true)?),
            Node::Template(mut template) => {
                template.pipe = template.pipe.map(|pipe| self.pipe(pipe)).transpose()?;
                Node::Template(template)
            }
            Node::Break(at) if self.loops == 0 => return Err(self.refuse(at, "{{break}} outside {{range}}")),
            Node::Continue(at) if self.loops == 0 => return Err(self.refuse(at, "{{continue}} outside {{range}}")),
            // The parser hands definitions over apart from the tree.
            node @ (Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_)) => node,
        })
    }

    fn branch(&mut self, branch: BranchNode, range: bool) -> Result<BranchNode, String> {
        let outer = self.variables.len();
        let pipe = self.pipe(branch.pipe)?;
        let declared = self.variables.len();
        self.loops += usize::from(range);
        let body = self.list(branch.body)?;
        self.loops -= usize::from(range);
        self.variables.truncate(declared);
        let else_body = branch.else_body.map(|body| self.list(body)).transpose()?;
        self.variables.truncate(outer);
        Ok(BranchNode { pos: branch.pos, pipe, body, else_body })
    }

    fn pipe(&mut self, pipe: PipeNode) -> Result<PipeNode, String> {
        let mut commands = Vec::with_capacity(pipe.commands.len());
        for command in pipe.commands {
            let command = self.command(command)?;
            let calls = matches!(command.args.first(), Some(Expr::Identifier(..)));
            let at = command.pos;
            commands.push(command);
            if calls {
                commands.push(CommandNode { pos: at, args: vec![Expr::Identifier(at, STEP.into())] });
            }
        }
        for name in &pipe.decl {
            match pipe.is_assign {
                true => self.declared(pipe.pos, name)?,
                false => self.variables.push(name.clone()),
            }
        }
        Ok(PipeNode { pos: pipe.pos, decl: pipe.decl, commands, is_assign: pipe.is_assign })
    }

    fn command(&mut self, command: CommandNode) -> Result<CommandNode, String> {
        let CommandNode { pos, args } = command;
        let mut args = args.into_iter();
        let Some(first) = args.next() else { return Err(self.refuse(pos, "missing value for command")) };
        if matches!(first, Expr::Nil(_)) {
            return Err(self.refuse(pos, "nil is not a command"));
        }
        let rest = args.map(|arg| self.expr(arg)).collect::<Result<Vec<_>, _>>()?;
        let mut args = match self.access(first)? {
            Ok(access) => access,
            Err(other) => vec![self.expr(other)?],
        };
        args.extend(rest);
        Ok(CommandNode { pos, args })
    }

    fn expr(&mut self, expr: Expr) -> Result<Expr, String> {
        let at = expr.pos();
        match self.access(expr)? {
            Ok(args) => Ok(Expr::Pipe(at, piped(at, args))),
            Err(Expr::Pipe(at, pipe)) => Ok(Expr::Pipe(at, self.pipe(pipe)?)),
            Err(Expr::Identifier(at, name)) if !(self.known)(&name) => {
                Err(self.refuse(at, format!("function {:?} not defined", name.as_str())))
            }
            Err(Expr::Variable(at, name, fields)) => {
                self.declared(at, &name)?;
                Ok(Expr::Variable(at, name, fields))
            }
            Err(other) => Ok(other),
        }
    }

    /// The call that an access to fields becomes; other expressions are handed back.
    fn access(&mut self, expr: Expr) -> Result<Result<Vec<Expr>, Expr>, String> {
        let (at, text, value, names) = match expr {
            Expr::Field(at, names) => (at, dotted(&names), Expr::Dot(at), names),
            Expr::Variable(at, name, names) if !names.is_empty() => {
                self.declared(at, &name)?;
                (at, format!("{name}{}", dotted(&names)), Expr::Variable(at, name, Vec::new()), names)
            }
            Expr::Chain(at, inner, names) => (at, dotted(&names), self.expr(*inner)?, names),
            other => return Ok(Err(other)),
        };
        let (line, column) = self.place(at);
        let place = format!("template: :{line}:{column}: executing {:?} at <{text}>", self.name);
        let count = i64::try_from(names.len()).unwrap_or(i64::MAX);
        let mut args = vec![Expr::Identifier(at, FIELD.into()), text_expr(at, &place)];
        args.extend([Expr::Number(at, Number::Int(count)), value]);
        args.extend(names.iter().map(|name| text_expr(at, name)));
        Ok(Ok(args))
    }

    fn declared(&self, at: Pos, name: &SmolStr) -> Result<(), String> {
        if self.variables.contains(name) {
            return Ok(());
        }
        Err(self.refuse(at, format!("undefined variable {:?}", name.as_str())))
    }

    fn refuse(&self, at: Pos, why: impl std::fmt::Display) -> String {
        format!("template: :{}: {why}", self.place(at).0)
    }

    /// The line, from one, and the column, from zero: as Go counts.
    fn place(&self, at: Pos) -> (usize, usize) {
        let before = self.source.get(..at.offset).unwrap_or_default();
        let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1);
        (at.line.max(1), column)
    }
}

fn dotted(names: &[SmolStr]) -> String {
    names.iter().map(|name| format!(".{name}")).collect()
}

fn text_expr(at: Pos, text: &str) -> Expr {
    Expr::String(at, text.into())
}

fn piped(pos: Pos, args: Vec<Expr>) -> PipeNode {
    PipeNode { pos, decl: Vec::new(), commands: vec![CommandNode { pos, args }], is_assign: false }
}

/// Takes the arguments of [`FIELD`] apart: place, value, names, arguments.
pub(super) fn arguments(args: &[Value]) -> Option<(&str, &Value, &[Value], &[Value])> {
    let [Value::String(place), Value::Int(count), value, rest @ ..] = args else { return None };
    let (names, arguments) = rest.split_at_checked(usize::try_from(*count).ok()?)?;
    Some((&**place, value, names, arguments))
}
