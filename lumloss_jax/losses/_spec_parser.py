"""Parses ``"0.84*ms_ssim + 0.16*l1"`` into a spec with Python's grammar, and marks mistakes."""

import ast
import re
from collections.abc import Callable
from typing import Any, NoReturn

from lumloss_jax.losses._spec import (
    LOSSES,
    LossSpec,
    LossTerm,
    check_name,
    check_value,
    check_weight,
)

_LONGEST = 2000  # characters; Python's parser recurses, and a longer text is not a loss


def parse_loss(text: str) -> LossSpec:
    """Reads a loss spec such as ``"0.84*ms_ssim + 0.16*l1"`` or ``"luminance_l1(window_size=7)"``.

    The text is parsed with Python's grammar and never evaluated: an option can only be a number, a
    string, None, True, False, or a tuple of these. No array is made, so it can run before JAX's
    devices are set up.

    Args:
      text: terms joined by ``+``; a term is ``name``, ``name(option=value, ...)``, with ``weight
        *`` before it if the weight is not 1.

    Returns:
      The spec, with options converted and defaults dropped.

    Raises:
      ValueError: for text that is not such a sum. The message shows the text with a mark under the
        mistake, what is accepted there, and the nearest accepted name.

    Example:
      >>> spec = parse_loss("0.5 * luminance_l1(window='box', window_size=7) + mse")
      >>> print(spec)
      0.5*luminance_l1(window_size=7) + mse
      >>> parse_loss(str(spec)) == spec
      True
      >>> parse_loss("0.84*ms_sim + 0.16*l1")
      Traceback (most recent call last):
        ...
      ValueError: unknown loss 'ms_sim'; did you mean 'ms_ssim'?
          0.84*ms_sim + 0.16*l1
               ^^^^^^
      ...
    """
    if not isinstance(text, str):
        raise ValueError(f"a loss spec is a string such as '0.84*ms_ssim + 0.16*l1'; got {text!r}.")
    return _Parser(text).spec()


class _Parser:
    """Parses one text and marks the place of a mistake in it."""

    def __init__(self, text: str) -> None:
        # One line without tabs, so that a mark is printed at the right place
        self.text = re.sub(r"\s", " ", text).strip()

    def spec(self) -> LossSpec:
        if not self.text:
            raise ValueError(
                "the loss spec is empty: write a loss such as 'luminance_l1' or '0.84*ms_ssim + "
                "0.16*l1'."
            )
        if len(self.text) > _LONGEST:
            raise ValueError(
                f"the loss spec has {len(self.text)} characters, but at most {_LONGEST} are "
                "accepted: shorten it."
            )
        return self._sum(self._tree())

    def _sum(self, rest: ast.expr) -> LossSpec:
        nodes = []
        # A + b + c is (a + b) + c
        while isinstance(rest, ast.BinOp) and isinstance(rest.op, ast.Add):
            nodes.append(rest.right)
            rest = rest.left
        terms: dict[str, LossTerm] = {}
        for node in reversed([*nodes, rest]):
            term = self._term(node)
            if term.label in terms:
                self._fail(node, f"{term.label} occurs twice: add the weights and write it once.")
            terms[term.label] = term
        return LossSpec(tuple(terms.values()))

    def _tree(self) -> ast.expr:
        try:
            return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            # 0 or None: the text ends too early
            start = error.offset - 1 if error.offset else len(self.text)
            reason = f"cannot read this: {error.msg}."
        except (RecursionError, MemoryError, ValueError):
            start, reason = 0, "cannot read this: too deeply nested, or not text."
        raise ValueError(
            self._marked(start, start + 1, f"{reason} An example is '0.84*ms_ssim + 0.16*l1'.")
        )

    def _term(self, node: ast.expr) -> LossTerm:
        weight, call = 1.0, node
        if isinstance(node, ast.BinOp):
            if not isinstance(node.op, ast.Mult):
                self._fail(
                    node,
                    "terms are joined with +, and a weight with *; other operators and brackets "
                    "are not supported.",
                )
            if all(isinstance(side, ast.Name | ast.Call) for side in (node.left, node.right)):
                self._fail(
                    node, "a weight must be a number: losses can be added but not multiplied."
                )
            left_is_weight = not isinstance(node.left, ast.Name | ast.Call)
            number, call = (node.left, node.right) if left_is_weight else (node.right, node.left)
            weight = self._at(number, check_weight, self._literal(number))
        if isinstance(call, ast.Call):
            return self._call(weight, call)
        if not isinstance(call, ast.Name):
            self._fail(
                call,
                "a term must be the name of a loss with at most one weight and without brackets, "
                "as in '0.5*l1'.",
            )
        self._at(call, check_name, call.id)
        return LossTerm(weight, call.id)

    def _call(self, weight: float, call: ast.Call) -> LossTerm:
        if not isinstance(call.func, ast.Name):
            self._fail(call.func, "a loss must be given by its plain name.")
        name = call.func.id
        self._at(call.func, check_name, name)
        options: dict[str, Any] = {}
        inner = call.args[: "loss" in LOSSES[name].checks]  # a loss that has losses inside
        for argument in inner:
            options["loss"] = self._at(argument, check_value, name, "loss", self._sum(argument))
        for argument in call.args[len(inner) :]:
            self._fail(
                argument,
                "options are written as name=value. Accepted: "
                f"{', '.join(LOSSES[name].checks) or 'none'}.",
            )
        for keyword in call.keywords:
            if keyword.arg is None:
                self._fail(keyword.value, "options are written one by one, as name=value.")
            if keyword.arg in options:
                self._fail(keyword, f"{keyword.arg} is given twice.")
            # The option's name is checked first, so that the mark is under the name if the name is
            # wrong.
            known = keyword.arg in LOSSES[name].checks
            place = keyword.value if known else keyword
            value = self._literal(keyword.value) if known else None
            options[keyword.arg] = self._at(place, check_value, name, keyword.arg, value)
        return self._at(call, LossTerm, weight, name, tuple(options.items()))

    def _literal(self, node: ast.expr) -> Any:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            self._fail(
                node,
                "there must be a plain value here: a number, a string in quotes, None, True, False "
                "or a tuple.",
            )
        return tuple(value) if isinstance(value, list) else value

    def _at(self, node: ast.expr | ast.keyword, check: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a check and, if it raises, marks the node."""
        try:
            return check(*arguments)
        except ValueError as error:
            self._fail(node, str(error))

    def _fail(self, node: ast.expr | ast.keyword, reason: str) -> NoReturn:
        encoded = self.text.encode()  # ast counts columns in bytes
        start = len(encoded[: node.col_offset].decode())
        end = len(encoded[: node.end_col_offset].decode())
        raise ValueError(self._marked(start, end, reason)) from None

    def _marked(self, start: int, end: int, reason: str) -> str:
        first, *others = reason.split("\n")
        return "\n".join(
            [first, f"    {self.text}", f"    {' ' * start}{'^' * max(end - start, 1)}", *others]
        )
