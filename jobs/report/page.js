// Wires the embedded data to the stage and the charts.

function buildCharts(charts) {
  const section = document.getElementById("charts");
  const hosts = charts.map((chart) => {
    const host = document.createElement("article");
    host.className = "card chart";
    host.innerHTML = '<h3></h3><div class="legend" data-legend></div><div data-plot></div><p class="readout" data-readout></p>';
    host.querySelector("h3").textContent = chart.title;
    section.append(host);
    return host;
  });
  const draw = () => hosts.forEach((host, i) => drawChart(host, charts[i]));
  draw();
  let width = window.innerWidth;
  window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } });
}

// Where motions are chosen freely, a click adds one to those that are shown or takes it away; the oldest gives way to a
// new one if there is no player left, and one always stays.
function toggled(chosen, index, most) {
  const others = chosen.filter((i) => i !== index);
  if (others.length < chosen.length) return others.length ? others : chosen;
  return [...chosen, index].slice(-most);
}

// One comparison of several, each of which has one motion.
function sideBySide(comparisons, players) {
  const names = players.map((player) => player.canvas.dataset.player);
  const joined = { segments: comparisons.length === 1 ? comparisons[0].segments : [], scores: {}, motions: {} };
  comparisons.forEach((comparison, i) => {
    joined.motions[names[i]] = Object.values(comparison.motions)[0];
    joined.scores[names[i]] = comparison.title;
  });
  return joined;
}

function buildStage(data) {
  const root = document.getElementById("stage");
  if (!root) return;
  const stage = new Stage(root, data.skeletons, data.palettes);
  const buttons = document.getElementById("prompts");
  let chosen = [];
  const select = (index) => {
    chosen = data.together ? toggled(chosen, index, stage.players.length) : [index];
    const comparison = data.together ? sideBySide(chosen.map((i) => data.comparisons[i]), stage.players) : data.comparisons[index];
    stage.label(comparison.segments);
    root.querySelectorAll("[data-scores]").forEach((element) => { element.textContent = comparison.scores[element.dataset.scores] ?? ""; });
    stage.load(comparison);
    [...buttons.children].forEach((button, i) => button.setAttribute("aria-pressed", chosen.includes(i)));
  };
  data.comparisons.forEach((comparison, index) => {
    const button = document.createElement("button");
    button.textContent = comparison.title;
    button.title = comparison.title;
    button.addEventListener("click", () => select(index));
    buttons.append(button);
  });
  select(0);
  if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) stage.play();
  window.kinetuneStage = stage;
}

const reportData = JSON.parse(document.getElementById("data").textContent);
buildCharts(reportData.charts);
buildStage(reportData);
