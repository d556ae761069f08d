"""Draws the diagrams of the architecture page as SVG: `python docs/scripts/drawings.py`."""

from __future__ import annotations

from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
INK, PALE, LINE, ACCENT = "#1d2b36", "#eef5f4", "#5b7682", "#00796b"
WIDTH = 480
TRUST_REGION = (
    "conjugate gradients give the direction;",
    "the line search takes the largest step that",
    "raises the objective with KL within max_kl",
)


class Drawing:
    """Boxes with text, and arrows between points."""

    def __init__(self, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif" font-size="14">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        ]

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        bold: bool = False,
        small: bool = False,
        anchor: str = "start",
        colour: str = INK,
    ) -> None:
        """One line of text."""
        style = (' font-weight="700"' if bold else "") + (' font-size="12.5"' if small else "")
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}"{style}>{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, title: str, *lines: str, stack: int = 0) -> float:
        """A box with a bold title and lines under it; `stack` more boxes peep out behind. Returns its lower edge."""
        height = 34 + 18 * len(lines)
        for index in range(stack, -1, -1):
            shift = 4 * index
            self.parts.append(
                f'<rect x="{x + shift}" y="{y + shift}" width="{width}" height="{height}" rx="7" fill="{PALE}" '
                f'stroke="{ACCENT}" stroke-width="1.3"/>'
            )
        self.text(x + 12, y + 22, title, bold=True, colour=ACCENT)
        for index, line in enumerate(lines):
            self.text(x + 12, y + 42 + 18 * index, line, small=True)
        return y + height

    def arrow(
        self,
        *points: tuple[float, float],
        label: str = "",
        at: tuple[float, float] | None = None,
        anchor: str = "start",
    ) -> None:
        """A line through the points with a head at its end."""
        path = "M" + " L".join(f"{x} {y}" for x, y in points)
        self.parts.append(f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#head)"/>')
        if label and at:
            for index, line in enumerate(label.split("\n")):
                self.text(at[0], at[1] + 15 * index, line, small=True, anchor=anchor, colour=LINE)

    def save(self, name: str) -> None:
        """Writes the file."""
        (PICTURES / name).write_text("\n".join([*self.parts, "</svg>"]) + "\n", encoding="utf-8")


def draw_layers() -> None:
    """The layers, top to bottom."""
    layers = [
        ("jobs/", "what a person runs: commands, presets, reports"),
        ("cluster/", "Ray: actors, supervision, the loop, run folders"),
        ("learners/", "how parameters change: GRPO, TRPO, cloning"),
        ("rewards/", "how motion is judged: TMR, physics, tracking"),
        ("rollouts/", "policies and how they act: networks, samplers"),
        ("envs/", "gymnasium environments of the character"),
        ("motions/", "what a motion is: features, data, prompts"),
    ]
    drawing = Drawing(len(layers) * 66 + 14, "The layers of kinetune, from jobs at the top to motions at the bottom")
    for index, (name, meaning) in enumerate(layers):
        drawing.box(12, 10 + 66 * index, 400, name, meaning)
    bottom = 10 + 66 * len(layers) - 16
    drawing.arrow((438, 14), (438, bottom))
    drawing.parts.append(
        f'<text transform="translate(458 {bottom / 2}) rotate(90)" text-anchor="middle" fill="{LINE}" '
        'font-size="12.5">imports point down only</text>'
    )
    drawing.save("layers.svg")


def draw_grpo_step() -> None:
    """One step of GRPO."""
    drawing = Drawing(562, "One step of GRPO: prompts, rollouts, rewards, advantages, update, new version")
    drawing.box(70, 12, 260, "Prompts of the step", "batch_size texts, by seed and step")
    drawing.arrow((200, 64), (200, 106), label="requests", at=(208, 89))
    drawing.box(70, 108, 260, "Rollout actors, N", "sample group_size motions each", stack=2)
    drawing.arrow((130, 168), (130, 226), label="motions of a group", at=(138, 203))
    drawing.box(20, 228, 230, "Reward actors, M", "one for each scorer: TMR, physics", stack=2)
    drawing.arrow((130, 288), (130, 346), label="terms", at=(138, 323))
    drawing.box(20, 348, 230, "Controller", "mixes the terms to rewards,", "compares them within the group")
    drawing.arrow((130, 418), (130, 476), label="advantages", at=(138, 453))
    drawing.box(
        20, 478, 380, "Learner", "clipped ratio loss, KL to the reference policy,", "one optimizer step over all groups"
    )
    drawing.arrow((310, 168), (310, 476), label="trajectory\n(object store)", at=(318, 330))
    drawing.arrow(
        (402, 514), (456, 514), (456, 136), (342, 136), label="new policy\nversion", at=(450, 82), anchor="end"
    )
    drawing.save("grpo_step.svg")


def draw_trpo_iteration() -> None:
    """One iteration of TRPO."""
    drawing = Drawing(490, "One iteration of TRPO: rollout, advantages, statistics, trust region step, critic")
    steps = [
        ("1  Env runners act", "newest weights, arrays [steps, environments]"),
        ("2  Advantages", "GAE; recorded means must be the policy's own"),
        ("3  Observation statistics", "take in the batch, within the trust region"),
        ("4  Trust region step", *TRUST_REGION),
        ("5  Critic", "is fitted to the returns"),
    ]
    top = 12.0
    for index, (title, *lines) in enumerate(steps):
        bottom = drawing.box(20, top, 370, title, *lines)
        if index < len(steps) - 1:
            drawing.arrow((205, bottom), (205, bottom + 40))
        top = bottom + 42
    last = top - 42 - 26
    drawing.arrow((390, last), (440, last), (440, 38), (392, 38))
    drawing.parts.append(
        f'<text transform="translate(458 {last / 2 + 20}) rotate(90)" text-anchor="middle" fill="{LINE}" '
        'font-size="12.5">the new policy acts next</text>'
    )
    drawing.save("trpo_iteration.svg")


if __name__ == "__main__":
    draw_layers()
    draw_grpo_step()
    draw_trpo_iteration()
