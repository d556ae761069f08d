// Line and stacked-bar charts as inline SVG, drawn from the numbers embedded in the page.
// A series is {name, colour, points: [[x, y, low?, high?], ...], dots?}; low and high draw a confidence band.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (parent) parent.appendChild(element);
  return element;
}

function niceTicks(low, high, count) {
  // At least what numbers of this size resolve, or a step would be too small to get on.
  const span = Math.max(high - low, Math.abs(high) * 1e-12) || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * span; tick += step) ticks.push(tick);
  return ticks;
}

// Smallest and largest; Math.min(...values) fails beyond some 100,000 values.
function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function label(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e4 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// Ticks that would read the same are told by their distance from the rounded value: "-2.0e-7", "1", "+2.0e-7".
function tickLabels(ticks) {
  const plain = ticks.map(label);
  if (new Set(plain).size === plain.length) return plain;
  const base = Number(ticks[0].toPrecision(3)), step = Math.abs(ticks[1] - ticks[0]);
  return ticks.map((tick) => {
    const distance = tick - base;
    return Math.abs(distance) < step / 2 ? label(base) : (distance > 0 ? "+" : "-") + label(Math.abs(distance));
  });
}

function frame(host, chart, yLow, yHigh) {
  const width = Math.max(260, host.clientWidth), height = 220;
  const margin = { left: 48, right: 12, top: 10, bottom: 30 };
  host.querySelector("svg")?.remove();
  const svg = node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": chart.title });
  host.querySelector("[data-plot]").appendChild(svg);
  const [xLow, xLast] = extent(chart.series.flatMap((s) => s.points.map((p) => p[0])));
  const xHigh = Math.max(xLast, xLow + 1);
  const x = (v) => margin.left + ((v - xLow) / (xHigh - xLow)) * (width - margin.left - margin.right);
  const y = (v) => height - margin.bottom - ((v - yLow) / (yHigh - yLow)) * (height - margin.top - margin.bottom);
  const ticks = niceTicks(yLow, yHigh, 4), texts = tickLabels(ticks);
  for (const [index, tick] of ticks.entries()) {
    node("line", { x1: margin.left, x2: width - margin.right, y1: y(tick), y2: y(tick), class: "gridline" }, svg);
    node("text", { x: margin.left - 6, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, svg).textContent = texts[index];
  }
  for (const tick of niceTicks(xLow, xHigh, Math.min(6, Math.floor(width / 90)))) {
    node("text", { x: x(tick), y: height - 12, class: "tick", "text-anchor": "middle" }, svg).textContent = label(tick);
  }
  node("text", { x: width - margin.right, y: height - 1, class: "tick", "text-anchor": "end" }, svg).textContent = chart.x_label;
  return { svg, x, y, xLow, xHigh, width, height, margin };
}

function drawLegend(host, series) {
  const legend = host.querySelector("[data-legend]");
  legend.replaceChildren(...series.map((s) => {
    const item = document.createElement("span");
    item.innerHTML = `<i style="background:${s.colour}"></i>`;
    item.append(s.name);
    return item;
  }));
}

function drawLines(host, chart) {
  let [low, high] = extent(chart.series.flatMap((s) => s.points.flatMap((p) => p.slice(1))));
  if (chart.zero) { low = Math.min(low, 0); high = Math.max(high, 0); }
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  const view = frame(host, chart, chart.zero && low === 0 ? 0 : low - pad, high + pad);
  for (const s of chart.series) {
    const banded = s.points.filter((p) => p.length === 4);
    if (banded.length > 1) {
      const upper = banded.map((p) => `${view.x(p[0])},${view.y(p[3])}`);
      const lower = banded.map((p) => `${view.x(p[0])},${view.y(p[2])}`).reverse();
      node("polygon", { points: [...upper, ...lower].join(" "), fill: s.colour, opacity: 0.18 }, view.svg);
    }
    const line = s.points.map((p) => `${view.x(p[0])},${view.y(p[1])}`).join(" ");
    node("polyline", { points: line, fill: "none", stroke: s.colour, "stroke-width": s.dots ? 2.5 : 1.75 }, view.svg);
    if (s.dots) s.points.forEach((p) => node("circle", { cx: view.x(p[0]), cy: view.y(p[1]), r: 3.5, fill: s.colour }, view.svg));
  }
  addReadout(host, chart, view);
  drawLegend(host, chart.series);
}

function drawStacks(host, chart) {
  const steps = chart.series[0].points.map((p) => p[0]);
  const totals = steps.map((_, i) => chart.series.reduce((sum, s) => sum + s.points[i][1], 0));
  const view = frame(host, chart, 0, extent(totals)[1] * 1.05 || 1);
  const bar = Math.max(1, ((view.width - view.margin.left - view.margin.right) / steps.length) * 0.9);
  steps.forEach((step, i) => {
    let base = 0;
    for (const s of chart.series) {
      const top = base + s.points[i][1];
      node("rect", { x: view.x(step) - bar / 2, width: bar, y: view.y(top), height: Math.max(0, view.y(base) - view.y(top)), fill: s.colour }, view.svg);
      base = top;
    }
  });
  addReadout(host, chart, view);
  drawLegend(host, chart.series);
}

function addReadout(host, chart, view) {
  const marker = node("line", { y1: view.margin.top, y2: view.height - view.margin.bottom, class: "marker", visibility: "hidden" }, view.svg);
  const readout = host.querySelector("[data-readout]");
  const show = (event) => {
    const box = view.svg.getBoundingClientRect();
    const inner = view.width - view.margin.left - view.margin.right;
    const at = view.xLow + ((event.clientX - box.left - view.margin.left) / inner) * (view.xHigh - view.xLow);
    const nearest = (points) => points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    const step = nearest(chart.series[0].points)[0];
    marker.setAttribute("x1", view.x(step));
    marker.setAttribute("x2", view.x(step));
    marker.setAttribute("visibility", "visible");
    readout.textContent = `${chart.x_label} ${label(step)}: ` + chart.series.map((s) => `${s.name} ${label(nearest(s.points)[1])}`).join(" · ");
  };
  view.svg.addEventListener("pointermove", show);
  view.svg.addEventListener("pointerdown", show);
  view.svg.addEventListener("pointerleave", () => { marker.setAttribute("visibility", "hidden"); readout.textContent = chart.note; });
  readout.textContent = chart.note;
}

function drawChart(host, chart) {
  if (chart.kind === "stack") drawStacks(host, chart);
  else drawLines(host, chart);
}
