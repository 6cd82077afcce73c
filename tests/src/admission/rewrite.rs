//! What an API server makes of an expression before it evaluates it, done on the parsed expression:
//! `variables.x` is what x stands for, and `Object{…}` and `JSONPatch{…}` are objects. Names that
//! do not exist are refused here, as they are when a policy is created.

use std::collections::BTreeMap;

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr, LiteralValue, MapEntryExpr, MapExpr, StructExpr};

/// The names that an expression may use.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// `object`, `request`, …
    pub(super) roots: Vec<&'static str>,
    /// What `variables.x` stands for.
    pub(super) variables: BTreeMap<String, IdedExpr>,
    /// Whether objects may be made: in mutations.
    pub(super) objects: bool,
}

/// Functions of Kubernetes that are here, with the same meaning.
const FUNCTIONS: [&str; 24] = [
    "charAt",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "optional.none",
    "optional.of",
    "or",
    "orValue",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "value",
];

/// Rewrites an expression in place.
pub(super) fn rewrite(expr: &mut IdedExpr, names: &Names) -> Result<(), String> {
    visit(expr, names, &mut Vec::new())
}

/// `bound` are the variables of the macros (`all`, `map`, …) around the expression.
fn visit(expr: &mut IdedExpr, names: &Names, bound: &mut Vec<String>) -> Result<(), String> {
    match &mut expr.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => {
            let known = bound.contains(name) || names.roots.contains(&name.as_str());
            if known { Ok(()) } else { Err(format!("undeclared reference to '{name}'")) }
        }
        Expr::Select(select) => {
            let of_variables =
                matches!(&select.operand.expr, Expr::Ident(name) if name == "variables");
            if !of_variables || select.test {
                return visit(&mut select.operand, names, bound);
            }
            let variable = names.variables.get(&select.field);
            let found = variable.ok_or_else(|| format!("undefined field '{}'", select.field))?;
            *expr = found.clone();
            Ok(())
        }
        Expr::Call(call) => {
            let operator =
                call.func_name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!("undeclared reference to '{}'", call.func_name));
            }
            let target = call.target.iter_mut().map(|target| &mut **target);
            target.chain(&mut call.args).try_for_each(|part| visit(part, names, bound))
        }
        Expr::List(list) => list.elements.iter_mut().try_for_each(|e| visit(e, names, bound)),
        Expr::Map(map) => entries(&mut map.entries, names, bound),
        Expr::Comprehension(all) => {
            visit(&mut all.iter_range, names, bound)?;
            visit(&mut all.accu_init, names, bound)?;
            let outside = bound.len();
            bound.push(all.accu_var.clone());
            bound.push(all.iter_var.clone());
            bound.extend(all.iter_var2.clone());
            let parts = [&mut all.loop_cond, &mut all.loop_step, &mut all.result];
            let outcome = parts.into_iter().try_for_each(|part| visit(part, names, bound));
            bound.truncate(outside);
            outcome
        }
        Expr::Struct(object) => {
            if !names.objects {
                return Err(format!("undeclared reference to '{}'", object.type_name));
            }
            let mut map = Expr::Map(plain(std::mem::take(object), expr.id)?);
            if let Expr::Map(map) = &mut map {
                entries(&mut map.entries, names, bound)?;
            }
            expr.expr = map;
            Ok(())
        }
    }
}

fn entries(
    entries: &mut [cel::common::ast::IdedEntryExpr],
    names: &Names,
    bound: &mut Vec<String>,
) -> Result<(), String> {
    entries.iter_mut().try_for_each(|entry| match &mut entry.expr {
        EntryExpr::MapEntry(entry) => {
            visit(&mut entry.key, names, bound)?;
            visit(&mut entry.value, names, bound)
        }
        EntryExpr::StructField(field) => visit(&mut field.value, names, bound),
    })
}

/// An object as a map of its fields' names. A nested one is of the type that its place demands:
/// `Object{spec: Object.spec{…}}`.
fn plain(object: StructExpr, id: u64) -> Result<MapExpr, String> {
    let name = object.type_name;
    let patch = name == "JSONPatch";
    if !patch && name != "Object" && !name.starts_with("Object.") {
        return Err(format!("undeclared reference to '{name}'"));
    }
    let mut map = MapExpr::default();
    for mut entry in object.entries {
        if let EntryExpr::StructField(field) = entry.expr {
            let place = format!("{name}.{}", field.field);
            let nested = match &field.value.expr {
                Expr::Struct(nested) => Some(nested.type_name.clone()),
                _ => None,
            };
            let known = !patch || ["op", "path", "from", "value"].contains(&field.field.as_str());
            if !known {
                return Err(format!("undefined field '{}'", field.field));
            }
            if !patch && nested.as_ref().is_some_and(|nested| *nested != place) {
                return Err(format!("unexpected type name {nested:?}, expected {place:?}"));
            }
            let key = Expr::Literal(LiteralValue::String(field.field.into()));
            entry.expr = EntryExpr::MapEntry(MapEntryExpr {
                key: IdedExpr { id, expr: key },
                value: field.value,
                optional: field.optional,
            });
        }
        map.entries.push(entry);
    }
    Ok(map)
}
