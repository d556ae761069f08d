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

function buildStage(data) {
  const root = document.getElementById("stage");
  if (!root) return;
  const stage = new Stage(root, data.skeleton, data.palettes);
  const buttons = document.getElementById("prompts");
  const select = (index) => {
    const comparison = data.comparisons[index];
    const segments = root.querySelector("[data-segments]");
    segments.replaceChildren(...comparison.segments.map((segment) => {
      const element = document.createElement("span");
      element.textContent = segment.text;
      element.title = segment.text;
      element.dataset.segment = "";
      element.dataset.start = segment.start;
      element.dataset.end = segment.end;
      element.style.flex = `${segment.end - segment.start} 1 0`;
      return element;
    }));
    root.querySelectorAll("[data-scores]").forEach((element) => { element.textContent = comparison.scores[element.dataset.scores]; });
    stage.load(comparison);
    [...buttons.children].forEach((button, i) => button.setAttribute("aria-pressed", i === index));
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
