// Draws the simulated character, and wires the page's buttons to the simulation.

const PUSH_S = 0.2;
const AFTER_A_FALL_S = 1.0;
const MOST_BEHIND_S = 0.25;

// From z up, facing +x to the viewer's y up, facing +z; left stays left.
function shown(values, at) {
  return [values[at + 1], values[at + 2], values[at]];
}

// The bodies as lines, circles and boxes, from far to near; in shades of `colours`, the left limbs lighter.
class Figure {
  constructor(simulation) {
    const { mujoco, kinematics } = simulation;
    const kinds = mujoco.mjtGeom, geom = mujoco.mjtObj.mjOBJ_GEOM.value;
    this.simulation = simulation;
    this.geoms = [];
    for (let id = 0; id < kinematics.ngeom; id++) {
      const name = mujoco.mj_id2name(kinematics, geom, id), kind = kinematics.geom_type[id];
      if (kind === kinds.mjGEOM_PLANE.value) continue;
      const side = ["left", "right"].find((word) => name.startsWith(word)) ?? "middle";
      const [a, b, c] = kinematics.geom_size.slice(3 * id, 3 * id + 3);
      if (kind === kinds.mjGEOM_BOX.value) {
        const corners = [-a, a].flatMap((x) => [-b, b].flatMap((y) => [-c, c].map((z) => [x, y, z])));
        this.geoms.push({ id, side, radius: 0, points: corners });
      } else {
        const ends = kind === kinds.mjGEOM_CAPSULE.value ? [[0, 0, -b], [0, 0, b]] : [[0, 0, 0]];
        this.geoms.push({ id, side, radius: a, points: ends });
      }
    }
  }

  draw(g, project, colours) {
    const parts = [...this.bodies(colours), ...this.links(colours)];
    this.drawShadow(g, project, parts);
    for (const part of parts) {
      part.seen = part.world.map((point) => project(shown(point, 0)));
      part.depth = part.seen.reduce((sum, point) => sum + point[2], 0) / part.seen.length;
    }
    parts.sort((p, q) => q.depth - p.depth);
    g.lineCap = g.lineJoin = "round";
    for (const { seen, radius, colour } of parts) {
      g.fillStyle = g.strokeStyle = colour;
      g.lineWidth = Math.max(2, 2 * radius * seen[0][3]);
      g.beginPath();
      if (seen.length === 1) {
        g.arc(seen[0][0], seen[0][1], radius * seen[0][3], 0, TWO_PI);
        g.fill();
      } else if (radius) {
        line(g, seen);
        g.stroke();
      } else {
        line(g, hull(seen));
        g.closePath();
        g.fill();
      }
    }
  }

  bodies(colours) {
    const { geom_xpos, geom_xmat } = this.simulation.pose;
    return this.geoms.map(({ id, side, radius, points }) => {
      const place = geom_xpos.slice(3 * id, 3 * id + 3), turn = geom_xmat.slice(9 * id, 9 * id + 9);
      const world = points.map((point) => place.map(
        (x, row) => x + turn[3 * row] * point[0] + turn[3 * row + 1] * point[1] + turn[3 * row + 2] * point[2]));
      return { world, radius, colour: colours[side] };
    });
  }

  // Pelvis and chest are spheres: lines to the hips, shoulders and neck close the gaps.
  links(colours) {
    const { options, sensors } = this.simulation;
    const place = (body) => sensors.slice(BODIES_AT + 3 * body, BODIES_AT + 3 * body + 3);
    const trunk = options.body_parents.map((parent, body) => [parent, body]).filter(([parent]) => parent === 0 || parent === 1);
    return trunk.map((pair) => ({ world: pair.map(place), radius: 0.04, colour: colours.middle }));
  }

  drawShadow(g, project, parts) {
    const [x, y] = this.simulation.root;
    g.globalAlpha = 0.13;
    g.strokeStyle = getComputedStyle(g.canvas).getPropertyValue("--shadow");
    g.lineWidth = Math.max(3, 0.1 * project([y, 0, x])[3]);
    // One path, so that bodies that cross do not darken it twice.
    g.beginPath();
    for (const { world } of parts) line(g, world.map((point) => project([point[1], 0, point[0]])));
    g.stroke();
    g.globalAlpha = 1;
  }
}

function line(g, points) {
  points.forEach(([x, y], i) => { if (i) g.lineTo(x, y); else g.moveTo(x, y); });
}

// Corners of the convex hull of points on the screen, in order (Andrew's monotone chain).
function hull(points) {
  const sorted = [...points].sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  const half = (ordered) => {
    const chain = [];
    for (const p of ordered) {
      while (chain.length > 1) {
        const [a, b] = chain.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        chain.pop();
      }
      chain.push(p);
    }
    return chain.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.reverse())];
}

function nearCamera() { return Object.assign(new Camera(), { distance: 3.2 }); }

// Runs the simulation in the time of the clock and draws it.
class Walkabout {
  constructor(root, simulation, colours) {
    this.root = root;
    this.simulation = simulation;
    this.colours = colours;
    this.figure = new Figure(simulation);
    this.canvas = root.querySelector("canvas");
    this.camera = nearCamera();
    this.speed = 1;
    this.follow = true;
    this.withReference = false;
    this.playing = false;
    this.place = [0, 0.85, 0];
    this.bindControls();
    bindPointer(this.canvas, this);
    new ResizeObserver(() => this.render()).observe(root);
    requestAnimationFrame((now) => this.tick(now));
  }

  bindControls() {
    const one = (name) => this.root.querySelector(name);
    const pressed = (button, value) => button.setAttribute("aria-pressed", value);
    const act = {
      play: () => this.toggle(),
      restart: () => this.restart(),
      push: (button) => this.push(Number(button.dataset.degrees)),
      reference: (button) => pressed(button, (this.withReference = !this.withReference)),
      follow: (button) => pressed(button, (this.follow = !this.follow)),
      speed: (button) => {
        this.speed = { 1: 0.5, 0.5: 0.25, 0.25: 1 }[this.speed];
        button.textContent = { 1: "1×", 0.5: "½×", 0.25: "¼×" }[this.speed];
      },
      reset: () => { this.camera = nearCamera(); },
    };
    this.root.querySelectorAll("[data-action]").forEach((button) => {
      button.disabled = false;
      button.addEventListener("click", () => { act[button.dataset.action](button); this.render(); });
    });
    this.newtons = one("[data-newtons]");
    this.newtons.addEventListener("input", () => this.render());
    this.status = one("[data-status]");
  }

  // Newtons of a push and degrees counter-clockwise from where the character faces.
  push(degrees, newtons = Number(this.newtons.value)) {
    this.simulation.push(newtons, degrees, PUSH_S);
    if (!this.playing && !this.ended) this.play();
  }

  get ended() { return this.fellAt !== undefined || this.simulation.over; }

  restart() {
    this.simulation.restart(this.simulation.options.start_phase);
    this.fellAt = undefined;
    this.render();
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() {
    if (this.ended) this.restart();
    this.playing = true;
    this.last = performance.now();
    this.owed = 0;
    this.render();
  }

  pause() { this.playing = false; this.render(); }

  // Control steps for the time since the last picture; a page that was hidden for long does not catch up.
  tick(now) {
    if (this.playing) {
      this.owed += Math.min(MOST_BEHIND_S, Math.max(0, now - this.last) / 1000) * this.speed;
      this.last = now;
      const step_s = 1 / this.simulation.options.control_hz;
      for (; this.playing && this.owed >= step_s; this.owed -= step_s) this.advance();
      this.render();
    }
    requestAnimationFrame((next) => this.tick(next));
  }

  advance() {
    const { simulation } = this;
    simulation.step();
    if (simulation.fell) this.fellAt ??= simulation.seconds;
    const fallen = this.fellAt !== undefined && simulation.seconds >= this.fellAt + AFTER_A_FALL_S;
    if (fallen || simulation.diverged || simulation.over) this.playing = false;
  }

  render() {
    const { simulation } = this;
    const canvas = clearedCanvas(this.canvas);
    if (!canvas) return;
    const { g, width, height } = canvas;
    if (this.follow) this.place = [simulation.root[1], 0.85, simulation.root[0]];
    const project = (point) => this.camera.project(point, this.place, width, height);
    drawGrid(g, project, this.place);
    g.globalAlpha = 1;
    this.figure.draw(g, project, this.colours.character);
    if (this.withReference) this.drawReference(g, project);
    if (simulation.force) this.drawForce(g, project);
    this.describe();
  }

  drawReference(g, project) {
    const { simulation } = this;
    const aims = simulation.reference.bodyPositions(simulation.time, simulation.origin);
    g.strokeStyle = this.colours.reference;
    g.lineWidth = 3;
    g.beginPath();
    simulation.options.body_parents.forEach((parent, body) => {
      if (parent < 0) return;
      const from = project(shown(aims, 3 * parent)), to = project(shown(aims, 3 * body));
      g.moveTo(from[0], from[1]); g.lineTo(to[0], to[1]);
    });
    g.stroke();
  }

  // An arrow that ends where the push acts, half a metre for 100 N.
  drawForce(g, project) {
    const { simulation } = this;
    const at = simulation.pose.xpos.slice(3 * simulation.pushBody, 3 * simulation.pushBody + 3);
    const tail = at.map((x, axis) => x - simulation.force[axis] / 200);
    const from = project(shown(tail, 0)), to = project(shown(at, 0));
    const angle = Math.atan2(to[1] - from[1], to[0] - from[0]);
    g.strokeStyle = getComputedStyle(this.canvas).getPropertyValue("--bad");
    g.lineWidth = 4;
    g.beginPath();
    g.moveTo(from[0], from[1]); g.lineTo(to[0], to[1]);
    for (const turn of [2.6, -2.6]) {
      g.moveTo(to[0], to[1]);
      g.lineTo(to[0] + 14 * Math.cos(angle + turn), to[1] + 14 * Math.sin(angle + turn));
    }
    g.stroke();
  }

  describe() {
    const { simulation } = this;
    const button = this.root.querySelector("[data-action=play]");
    button.textContent = this.playing ? "Pause" : "Start";
    button.setAttribute("aria-pressed", this.playing);
    this.root.querySelector("[data-force]").textContent = `${this.newtons.value} N`;
    const words = [`${simulation.seconds.toFixed(1)} s`];
    if (this.fellAt !== undefined) words.push(`fell after ${this.fellAt.toFixed(1)} s`);
    else if (simulation.over) words.push("the clip is over");
    this.status.textContent = words.join(", ");
  }
}

async function unpacked(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function openPage() {
  const text = (id) => document.getElementById(id).textContent;
  const data = JSON.parse(text("data"));
  const mujoco = await loadMujoco({ wasmBinary: await unpacked(text("wasm")) });
  const page = new Walkabout(document.getElementById("stage"), new Simulation(mujoco, data), data.colours);
  page.render();
  window.kinetunePage = page;
}

openPage().catch((error) => {
  document.querySelector("[data-status]").textContent =
    `This browser cannot run the simulation (it needs WebAssembly and DecompressionStream): ${error}`;
  throw error;
});
