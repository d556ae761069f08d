// Plays skeleton motions side by side on 2D canvases with an orbiting perspective camera. No library, no network.
// A stage holds the players of one comparison: they share time and camera, so two motions are seen from one side.

const TWO_PI = Math.PI * 2;

function decodeJoints(motion) {
  // Int16 counts of motion.unit_m metres, little endian, [frames, joints, 3], y up.
  const bytes = Uint8Array.from(atob(motion.joints), (c) => c.charCodeAt(0));
  const values = new Int16Array(bytes.buffer);
  const metres = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) metres[i] = values[i] * motion.unit_m;
  return metres;
}

class Camera {
  constructor() {
    this.yaw = 0.6;
    this.pitch = 0.22;
    this.distance = 4.2;
  }

  orbit(dx, dy) {
    this.yaw -= dx * 0.008;
    this.pitch = Math.min(1.45, Math.max(-0.1, this.pitch + dy * 0.006));
  }

  zoom(factor) {
    this.distance = Math.min(14, Math.max(1.6, this.distance * factor));
  }

  // Returns [x px, y px, depth m, pixels per metre] of a point, for a camera that looks at `target`.
  project(point, target, width, height) {
    const x = point[0] - target[0], y = point[1] - target[1], z = point[2] - target[2];
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw);
    const cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const rx = cy * x - sy * z;
    const rz = sy * x + cy * z;
    const ry = cp * y - sp * rz;
    const depth = this.distance - (sp * y + cp * rz);
    const scale = (1.15 * Math.min(width, height * 1.2)) / Math.max(depth, 0.2);
    return [width / 2 + rx * scale, height / 2 - ry * scale, depth, scale];
  }
}

// An empty canvas with a pixel for each of the screen's; null while it is not laid out.
function clearedCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (width === 0) return null;
  if (canvas.width !== Math.round(width * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width, height };
}

// Lines of the ground, a metre apart, around the point that the camera looks at.
function drawGrid(g, project, target) {
  const style = getComputedStyle(g.canvas);
  const grid = style.getPropertyValue("--grid");
  const [cx, , cz] = target;
  const x0 = Math.round(cx), z0 = Math.round(cz), reach = 4;
  g.lineWidth = 1;
  for (let i = -reach; i <= reach; i++) {
    for (const [a, b] of [[[x0 + i, 0, z0 - reach], [x0 + i, 0, z0 + reach]], [[x0 - reach, 0, z0 + i], [x0 + reach, 0, z0 + i]]]) {
      const p = project(a), q = project(b);
      if (p[2] < 0.3 || q[2] < 0.3) continue;
      g.strokeStyle = grid;
      g.globalAlpha = 1 - (0.75 * Math.abs(i)) / reach;
      g.beginPath(); g.moveTo(p[0], p[1]); g.lineTo(q[0], q[1]); g.stroke();
    }
  }
}

class Player {
  constructor(canvas, skeletons, colours) {
    this.canvas = canvas;
    this.skeletons = skeletons;
    this.colours = colours;
    this.target = [0, 0.85, 0];
  }

  // Without a motion the player is hidden.
  load(motion) {
    this.motion = motion;
    this.canvas.closest(".view").hidden = !motion;
    if (!motion) return;
    this.skeleton = this.skeletons[motion.skeleton];
    this.frames = motion.num_frames;
    this.joints = decodeJoints(motion);
    this.smoothRoot();
  }

  joint(frame, index) {
    const at = (frame * this.skeleton.num_joints + index) * 3;
    return [this.joints[at], this.joints[at + 1], this.joints[at + 2]];
  }

  smoothRoot() {
    // The camera follows the root softly, so that a jump or a step does not shake the picture.
    this.path = [];
    const radius = 12;
    for (let f = 0; f < this.frames; f++) {
      let x = 0, z = 0, n = 0;
      for (let k = Math.max(0, f - radius); k <= Math.min(this.frames - 1, f + radius); k++) {
        const root = this.joint(k, 0);
        x += root[0]; z += root[2]; n += 1;
      }
      this.path.push([x / n, 0.85, z / n]);
    }
  }

  draw(seconds, camera, follow) {
    const canvas = clearedCanvas(this.canvas);
    if (!canvas) return;
    const { g, width, height } = canvas;
    // What is at rest in the middle of a frame must not slip into its neighbour by rounding.
    const frame = Math.min(this.frames - 1, Math.max(0, Math.floor(seconds * this.motion.fps + 1e-6)));
    this.target = follow ? this.path[frame] : this.path[0];
    const project = (p) => camera.project(p, this.target, width, height);
    this.drawGround(g, project, frame);
    this.drawFigure(g, project, frame);
  }

  drawGround(g, project, frame) {
    drawGrid(g, project, this.target);
    g.globalAlpha = 0.5;
    g.strokeStyle = this.colours.path;
    g.lineWidth = 2;
    g.beginPath();
    for (let f = 0; f <= frame; f++) {
      const root = this.joint(f, 0);
      const p = project([root[0], 0, root[2]]);
      if (f === 0) g.moveTo(p[0], p[1]); else g.lineTo(p[0], p[1]);
    }
    g.stroke();
    g.globalAlpha = 1;
  }

  drawFigure(g, project, frame) {
    const style = getComputedStyle(this.canvas);
    g.lineCap = "round";
    const bones = [];
    // The shadow is one path, so that bones that cross do not darken it twice.
    g.beginPath();
    this.skeleton.parents.forEach((parent, child) => {
      if (parent < 0) return;
      const a = this.joint(frame, parent), b = this.joint(frame, child);
      const from = project([a[0], 0, a[2]]), to = project([b[0], 0, b[2]]);
      g.moveTo(from[0], from[1]); g.lineTo(to[0], to[1]);
      bones.push({ a: project(a), b: project(b), side: this.skeleton.sides[child], thick: this.skeleton.thickness_m[child] });
    });
    g.globalAlpha = 0.13;
    g.strokeStyle = style.getPropertyValue("--shadow");
    g.lineWidth = Math.max(3, 0.1 * project([this.target[0], 0, this.target[2]])[3]);
    g.stroke();
    g.globalAlpha = 1;
    bones.sort((p, q) => q.a[2] + q.b[2] - p.a[2] - p.b[2]);
    for (const bone of bones) {
      g.strokeStyle = this.colours[bone.side];
      g.lineWidth = Math.max(2, bone.thick * (bone.a[3] + bone.b[3]) / 2);
      g.beginPath(); g.moveTo(bone.a[0], bone.a[1]); g.lineTo(bone.b[0], bone.b[1]); g.stroke();
    }
    const head = project(this.joint(frame, this.skeleton.head));
    g.fillStyle = this.colours.middle;
    g.beginPath(); g.arc(head[0], head[1], Math.max(3, 0.105 * head[3]), 0, TWO_PI); g.fill();
  }
}

// Pointers, wheel and keys turn and zoom the camera of a stage; the space bar plays and pauses.
function bindPointer(canvas, stage) {
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    if (pointers.size === 2) {
      const spread = () => { const [p, q] = [...pointers.values()]; return Math.hypot(p[0] - q[0], p[1] - q[1]); };
      const before = spread();
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      stage.camera.zoom(before / Math.max(spread(), 1));
    } else {
      stage.camera.orbit(event.clientX - last[0], event.clientY - last[1]);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
    }
    stage.render();
  });
  const release = (event) => pointers.delete(event.pointerId);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    stage.camera.zoom(Math.exp(event.deltaY * 0.001));
    stage.render();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, 20], ArrowDown: [0, -20] }[event.key];
    if (turn) stage.camera.orbit(...turn);
    else if (event.key === "+") stage.camera.zoom(0.9);
    else if (event.key === "-") stage.camera.zoom(1.1);
    else if (event.key === " ") stage.toggle();
    else return;
    event.preventDefault();
    stage.render();
  });
}

class Stage {
  // `root` holds canvases [data-player], buttons [data-action], a range input and a clock.
  constructor(root, skeletons, palettes) {
    this.root = root;
    this.camera = new Camera();
    this.time = 0;
    this.speed = 1;
    this.playing = false;
    this.follow = true;
    this.players = [...root.querySelectorAll("[data-player]")].map(
      (canvas) => new Player(canvas, skeletons, palettes[canvas.dataset.player]));
    this.slider = root.querySelector("[data-slider]");
    this.clock = root.querySelector("[data-clock]");
    this.bindControls();
    new ResizeObserver(() => this.render()).observe(root);
    requestAnimationFrame((now) => this.tick(now));
  }

  load(comparison) {
    this.comparison = comparison;
    this.players.forEach((player) => player.load(comparison.motions[player.canvas.dataset.player]));
    // Time counts frames of the motion that has the most of them in a second.
    this.shown = this.players.filter((player) => player.motion);
    this.fps = Math.max(...this.shown.map((player) => player.motion.fps));
    this.frames = Math.max(...this.shown.map((player) => Math.ceil(player.frames * this.fps / player.motion.fps - 1e-6)));
    this.slider.max = this.frames - 1;
    this.time = 0;
    this.root.querySelector(".views").classList.toggle("alone", this.shown.length === 1);
    this.render();
  }

  // Texts below the players, each as wide as its share of the frames.
  label(segments) {
    this.root.querySelector("[data-segments]").replaceChildren(...segments.map((segment) => {
      const element = document.createElement("span");
      element.textContent = segment.text;
      element.title = segment.text;
      element.dataset.segment = "";
      element.dataset.start = segment.start;
      element.dataset.end = segment.end;
      element.style.flex = `${segment.end - segment.start} 1 0`;
      return element;
    }));
  }

  bindControls() {
    const act = {
      play: () => this.toggle(),
      follow: (button) => { this.follow = !this.follow; button.setAttribute("aria-pressed", this.follow); this.render(); },
      speed: (button) => {
        this.speed = { 1: 0.5, 0.5: 0.25, 0.25: 1 }[this.speed];
        button.textContent = { 1: "1×", 0.5: "½×", 0.25: "¼×" }[this.speed];
      },
      reset: () => { this.camera = new Camera(); this.render(); },
    };
    this.root.querySelectorAll("[data-action]").forEach((button) =>
      button.addEventListener("click", () => act[button.dataset.action](button)));
    this.slider.addEventListener("input", () => { this.pause(); this.time = Number(this.slider.value); this.render(); });
    this.players.forEach(({ canvas }) => bindPointer(canvas, this));
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  play() { this.playing = true; this.last = performance.now(); this.markButton(); }

  pause() { this.playing = false; this.markButton(); }

  markButton() {
    const button = this.root.querySelector("[data-action=play]");
    button.textContent = this.playing ? "Pause" : "Play";
    button.setAttribute("aria-pressed", this.playing);
  }

  tick(now) {
    if (this.playing && this.comparison) {
      this.time += ((now - this.last) / 1000) * this.fps * this.speed;
      this.last = now;
      if (this.time >= this.frames) this.time %= this.frames;
      this.render();
    }
    requestAnimationFrame((next) => this.tick(next));
  }

  render() {
    if (!this.comparison) return;
    this.shown.forEach((player) => player.draw(this.time / this.fps, this.camera, this.follow));
    this.slider.value = Math.floor(this.time);
    this.clock.textContent = `${(this.time / this.fps).toFixed(1)} s / ${(this.frames / this.fps).toFixed(1)} s`;
    const at = Math.floor(this.time);
    this.root.querySelectorAll("[data-segment]").forEach((element) => {
      const active = at >= Number(element.dataset.start) && at < Number(element.dataset.end);
      element.classList.toggle("active", active);
    });
  }
}
