// Asks which of two motions is better, and keeps the answers: in the browser at once, in a file when asked.

const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", ArrowDown: "equal", "=": "equal", s: "skip", S: "skip",
};

class Choosing {
  constructor(data, stage, root) {
    Object.assign(this, { data, stage, root });
    this.key = `kinetune choices ${data.id}`;
    this.answers = this.restored();
    this.at = this.firstOpen();
    this.bind();
    this.show();
  }

  // Answers by question, as they were when the page was last open; another page's are under another key.
  restored() {
    const empty = this.data.questions.map(() => null);
    try {
      const kept = JSON.parse(localStorage.getItem(this.key));
      return Array.isArray(kept) && kept.length === empty.length ? kept : empty;
    } catch (error) {
      this.warn(`This browser keeps no answers (${error.name}): save them before you close the page.`);
      return empty;
    }
  }

  keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.answers));
    } catch (error) {
      this.warn(`This browser keeps no answers (${error.name}): save them before you close the page.`);
    }
  }

  warn(text) { this.root.querySelector("[data-note]").textContent = text; }

  firstOpen() {
    const open = this.answers.findIndex((answer) => answer === null);
    return open < 0 ? this.answers.length : open;
  }

  bind() {
    const on = (selector, act) =>
      this.root.querySelectorAll(selector).forEach((button) => button.addEventListener("click", () => act(button)));
    on("[data-answer]", (button) => this.answer(button.dataset.answer));
    on("[data-back]", () => this.back());
    on("[data-save]", () => this.save());
    // Before the player sees them: its arrow keys turn the camera.
    window.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
      const onButton = event.target.matches("button");
      if (KEYS[event.key]) this.answer(KEYS[event.key]);
      else if (event.key === "Backspace") this.back();
      else if (event.key === " " && !onButton) this.stage.toggle();
      else return;
      event.preventDefault();
      event.stopPropagation();
    }, true);
  }

  answer(choice) {
    if (this.at >= this.answers.length) return;
    this.answers[this.at] = { choice, seconds: Math.round(performance.now() - this.since) / 1000 };
    this.keep();
    this.at += 1;
    this.show();
  }

  back() {
    if (this.at === 0) return;
    this.at -= 1;
    this.answers[this.at] = null;
    this.keep();
    this.show();
  }

  show() {
    const total = this.answers.length, done = this.answers.filter((answer) => answer !== null).length;
    this.root.querySelector("[data-bar]").value = done / total;
    const finished = this.at >= total;
    this.root.querySelector("[data-progress]").textContent =
      `${done} of ${total} answered` + (finished ? ": that was the last one. Save your choices." : "");
    this.root.querySelectorAll("[data-answer]").forEach((button) => { button.disabled = finished; });
    if (finished) { this.stage.pause(); return; }
    const [left, right] = this.data.questions[this.at];
    this.stage.label(this.data.segments[left]);
    this.stage.load({ motions: { left: this.data.motions[left], right: this.data.motions[right] } });
    this.since = performance.now();
  }

  document() {
    const choices = [];
    this.answers.forEach((answer, i) => {
      if (answer === null) return;
      const [left, right, again] = this.data.questions[i];
      choices.push({ left: this.data.names[left], right: this.data.names[right], again, ...answer });
    });
    return { kind: "kinetune choices", id: this.data.id, folder: this.data.folder, choices };
  }

  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(this.document(), null, 1)], { type: "application/json" }));
    link.download = "choices.json";
    link.click();
    URL.revokeObjectURL(link.href);
  }
}

const pageData = JSON.parse(document.getElementById("data").textContent);
const pageStage = new Stage(document.getElementById("stage"), pageData.skeletons, pageData.palettes);
window.kinetuneChoosing = new Choosing(pageData, pageStage, document.getElementById("choosing"));
if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) pageStage.play();
