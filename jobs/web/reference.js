// The reference motion at any time, as envs/task/reference.py computes it: tables of samples that are interpolated
// linearly, and the joint angles in the branch of Euler angles that is nearest to another pose.

const HALF_TURN = Math.PI, FULL_TURN = 2 * Math.PI;
const COORDINATES = 28, VECTORS = 9, RATES_AT = VECTORS + COORDINATES;
// Triples whose angles all differ by at most this many radians are the nearest ones for sure.
const CERTAIN = 1.25;

function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function doubles(text) {
  return new Float64Array(bytesOf(text).buffer);
}

function floats(text) {
  return new Float32Array(bytesOf(text).buffer);
}

function roundHalfEven(x) {
  const low = Math.floor(x), rest = x - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

class Samples {
  constructor(table) {
    this.values = doubles(table.values);
    this.columns = table.columns;
    this.rows = this.values.length / table.columns;
  }

  between(low, share) {
    const row = new Float64Array(this.columns), at = low * this.columns;
    for (let i = 0; i < this.columns; i++) {
      const first = this.values[at + i];
      row[i] = (this.values[at + this.columns + i] - first) * share + first;
    }
    return row;
  }
}

class Reference {
  constructor(data) {
    Object.assign(this, data);
    this.target = new Samples(data.tables.target);
    this.bodies = new Samples(data.tables.bodies);
    this.begin = new Samples(data.tables.start);
  }

  locate(time) {
    let share = time / this.duration_s;
    let cycles = Math.floor(share);
    if (this.cyclic) share -= cycles;
    else [cycles, share] = [0, Math.min(Math.max(share, 0), 1)];
    const last = this.target.rows - 2, place = share * (last + 1);
    const low = Math.min(Math.trunc(place), last);
    return { cycles, share, low, blend: place - low };
  }

  // MuJoCo's qpos and qvel on the clip, raised where a body is below the ground.
  start(time) {
    const { low, blend } = this.locate(time);
    const row = this.begin.between(low, blend);
    const qpos = row.slice(0, this.num_qpos), qvel = row.slice(this.num_qpos, row.length - 1);
    qpos[2] += Math.max(0, -row[row.length - 1]);
    for (const at of this.quaternions) {
      const norm = Math.hypot(qpos[at], qpos[at + 1], qpos[at + 2], qpos[at + 3]);
      for (let i = at; i < at + 4; i++) qpos[i] /= norm;
    }
    return { qpos, qvel };
  }

  // Target pose: place (3) and axes (6) of the root, joint coordinates (28), their rates (28).
  pose(time) {
    const { cycles, low, blend } = this.locate(time);
    const row = this.target.between(low, blend);
    if (!this.cyclic && time > this.duration_s) row.fill(0, RATES_AT);
    for (let axis = 0; axis < 3; axis++) row[axis] += cycles * this.cycle_offset[axis];
    return row;
  }

  // What a policy sees at a time, for a reference that began at `origin`; `ahead`: seconds to the aim and the targets.
  look(time, ahead, origin) {
    const here = this.locate(time), aim = this.pose(time + ahead[0]);
    const near = aim.slice(VECTORS, RATES_AT);
    const aims = near.map((angle, i) => (this.feedforward_s ? angle + this.feedforward_s * aim[RATES_AT + i] : angle));
    const later = ahead.slice(1).map((seconds) => {
      const row = this.pose(time + seconds);
      for (let axis = 0; axis < 3; axis++) row[axis] += origin[axis];
      let coordinates = row.slice(VECTORS, RATES_AT);
      if (this.hinge_joints) coordinates = rewrite(coordinates, nearestHinges(coordinates, near, this.triples));
      return { vectors: row.slice(0, VECTORS), coordinates };
    });
    const angle = here.share * (this.cyclic ? FULL_TURN : HALF_TURN);
    return { cycles: here.cycles, near, aims, circle: [Math.cos(angle), Math.sin(angle)], later };
  }

  // Positions of the bodies, three numbers each, for a reference that began at `origin`.
  bodyPositions(time, origin) {
    const { cycles, low, blend } = this.locate(time);
    return this.bodies.between(low, blend).map((x, i) => x + cycles * this.cycle_offset[i % 3] + origin[i % 3]);
  }
}

// Shift and sign that bring hinge angles to the representation nearest to `near`; null if they are it already.
// (a, b, c) and (a + pi, pi - b, c + pi) are one rotation, as are whole turns of each angle.
function nearestHinges(angles, near, triples) {
  if (angles.every((angle, i) => Math.abs(angle - near[i]) < CERTAIN)) return null;
  const shift = new Float64Array(angles.length), sign = new Float64Array(angles.length).fill(1);
  for (const at of triples) {
    const nearest = (flips, turns) => {
      const triple = flips.map((flip, i) => {
        const angle = flip * angles[at + i] + turns;
        return angle + FULL_TURN * roundHalfEven((near[at + i] - angle) / FULL_TURN);
      });
      return { triple, flips, gap: triple.reduce((sum, angle, i) => sum + Math.abs(angle - near[at + i]), 0) };
    };
    const same = nearest([1, 1, 1], 0), other = nearest([1, -1, 1], HALF_TURN);
    const best = same.gap > other.gap ? other : same;
    best.triple.forEach((angle, i) => {
      shift[at + i] = angle - best.flips[i] * angles[at + i];
      sign[at + i] = best.flips[i];
    });
  }
  return { shift, sign };
}

function rewrite(angles, branch) {
  return branch ? angles.map((angle, i) => branch.shift[i] + branch.sign[i] * angle) : angles;
}
