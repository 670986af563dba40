"""Mutants of a module: copies with one small mistake each, in the order of the source.

Unchanged are docstrings, annotations, decorators, imports, strings, messages of errors, `if __name__ == "__main__"`, dicts at the top level
(tables of data) and `strict` of zip (an assertion).
"""

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

COMPARISONS = {  # the boundary, and the opposite
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
FUNCTIONS = (("min", "max"), ("any", "all"), ("minimum", "maximum"), ("floor", "ceil"), ("zeros", "ones"), ("argmin", "argmax"))
METHODS = (*FUNCTIONS, ("mean", "sum"))
WIDTH = 80  # of the text of a change
UNCHANGED = ("annotation", "returns", "decorator_list")


@dataclass
class Mutant:
    """One mistake; `apply` makes it in the tree that was given to `mutants`."""

    line: int
    text: str  # the line without the mistake
    change: str
    place: tuple[ast.AST, str, int | None]
    node: ast.AST

    def apply(self) -> None:
        holder, field, index = self.place
        if index is None:
            setattr(holder, field, self.node)
        else:
            getattr(holder, field)[index] = self.node


def mutants(tree: ast.Module, source: str) -> list[Mutant]:
    """Return all mutants of a module."""
    lines, out = source.splitlines(), []
    for node, place in _walk(tree, top=True):
        for new in _replacements(node, *place[:2]):
            ast.fix_missing_locations(ast.copy_location(new, node))
            line = getattr(node, "lineno", None) or place[0].lineno
            out.append(Mutant(line, lines[line - 1].strip(), _describe(node, new), place, new))
    return out


def _walk(holder: ast.AST, top: bool = False) -> Iterator[tuple[ast.AST, tuple]]:
    """Yield every node that may be mutated, with its place (holder, field, index)."""
    for field, value in ast.iter_fields(holder):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or field in UNCHANGED or _is_unchanged(node, top):
                continue
            yield node, (holder, field, index)
            if not isinstance(node, ast.Raise):
                yield from _walk(node, top and not isinstance(node, (ast.FunctionDef, ast.ClassDef)))


def _is_unchanged(node: ast.AST, top: bool) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)) or (top and isinstance(node, ast.Dict)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return True
    return top and isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _replacements(node: ast.AST, holder: ast.AST, field: str) -> Iterator[ast.AST]:
    if field == "test" and isinstance(holder, (ast.If, ast.IfExp)):
        yield from (ast.Constant(True), ast.Constant(False))
    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    yield _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str())):
            pass  # a path
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in ARITHMETIC:
            yield _with(node, op=ARITHMETIC[type(op)]())
        case ast.UnaryOp():
            yield node.operand
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            yield from node.values
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value or 1.0)
        case ast.Slice():
            yield from (_with(node, **{bound: None}) for bound in ("lower", "upper", "step") if getattr(node, bound))
        case ast.List(ctx=ast.Load()) if len(node.elts) > 1:
            yield from (_with(node, elts=node.elts[:i] + node.elts[i + 1 :]) for i in range(len(node.elts)))
        case ast.Call():
            yield from _calls(node)
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
    if isinstance(node, ast.stmt):
        yield from _statements(node)


def _calls(node: ast.Call) -> Iterator[ast.Call]:
    """Yield a call without one keyword, or of the opposite function."""
    for i, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg != "strict":
            yield _with(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
    name, pairs = ("attr", METHODS) if isinstance(node.func, ast.Attribute) else ("id", FUNCTIONS)
    swap = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    if other := swap.get(getattr(node.func, name, None)):
        yield _with(node, func=_with(node.func, **{name: other}))


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield a statement removed or reversed."""
    match node:
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Expr() if not isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            yield ast.Pass()
        case ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


def _with(node: ast.AST, **fields) -> ast.AST:
    out = copy(node)
    for name, value in fields.items():
        setattr(out, name, value)
    return out


def _describe(old: ast.AST, new: ast.AST) -> str:
    """Return `old -> new`; of long expressions, the part around the change."""
    a, b = (" ".join(ast.unparse(node).split()) for node in (old, new))
    if max(len(a), len(b)) > WIDTH:
        start, end = (max(0, count - 20) for count in (_common_prefix(a, b), _common_prefix(a[::-1], b[::-1])))
        a, b = (x[start : max(start + 1, len(x) - end)] for x in (a, b))
        a, b = (x if len(x) <= WIDTH else f"{x[: WIDTH // 2]} ... {x[-WIDTH // 4 :]}" for x in (a, b))
    return f"{a} -> {b}"


def _common_prefix(a: str, b: str) -> int:
    """Return the length of the common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
