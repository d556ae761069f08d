// One character under its controller: what envs/mujoco and envs/task do in a control step, on MuJoCo's WASM build.
// A control step is a function of qpos, qvel and targets, as there: the solver's warm start is reset to zero.

// Columns of the kinematics model's sensors (envs/body/state.py).
const BODIES_AT = 97, POINTS_AT = 142, ROOT_AT = 154, RATE_SENSORS_AT = 194, BODY_VECTORS_AT = 222;

// Weights, activations and normalisation of the policy in single precision, sums in double.
class Policy {
  constructor(data) {
    this.layers = data.layers.map(({ weight, bias }) => ({ weight: floats(weight), bias: floats(bias) }));
    this.mean = floats(data.mean);
    this.std = floats(data.std);
    this.limit = floats(data.limit);
    this.activation = {
      tanh: Math.tanh,
      relu: (x) => Math.max(x, 0),
      elu: (x) => (x > 0 ? x : Math.expm1(x)),
      silu: (x) => x / (1 + Math.exp(-x)),
    }[data.activation];
  }

  act(observation) {
    let values = observation.map((x, i) => {
      const scaled = Math.fround(Math.fround(x - this.mean[i]) / this.std[i]);
      return Math.min(Math.max(scaled, -this.limit[i]), this.limit[i]);
    });
    this.layers.forEach(({ weight, bias }, depth) => {
      const inputs = values, last = depth === this.layers.length - 1;
      values = new Float32Array(bias.length);
      for (let row = 0; row < bias.length; row++) {
        let sum = bias[row];
        const at = row * inputs.length;
        for (let i = 0; i < inputs.length; i++) sum += weight[at + i] * inputs[i];
        values[row] = last ? sum : this.activation(Math.fround(sum));
      }
    });
    return values;
  }
}

class Simulation {
  constructor(mujoco, data) {
    this.mujoco = mujoco;
    this.options = data;
    this.reference = new Reference(data.reference);
    this.policy = new Policy(data.policy);
    this.model = mujoco.MjModel.from_xml_string(data.model);
    this.data = new mujoco.MjData(this.model);
    this.kinematics = mujoco.MjModel.from_xml_string(data.kinematics);
    this.pose = new mujoco.MjData(this.kinematics);
    this.pushBody = mujoco.mj_name2id(this.model, mujoco.mjtObj.mjOBJ_BODY.value, data.push_body);
    this.restart(data.start_phase);
  }

  get seconds() { return this.steps / this.options.control_hz; }

  get time() { return this.startTime + this.seconds; }

  // Whether the clip has been played to its end: one that does not repeat.
  get over() { return !this.reference.cyclic && this.time >= this.reference.duration_s - 1e-9; }

  restart(phase) {
    this.startTime = phase * this.reference.duration_s;
    this.steps = 0;
    this.cycle = 0;
    this.origin = [0, 0, 0];
    this.fell = false;
    this.planned = null;
    this.force = null;
    const { qpos, qvel } = this.reference.start(this.startTime);
    this.mujoco.mj_resetData(this.model, this.data);
    this.data.qpos.set(qpos);
    this.data.qvel.set(qvel);
    this.read();
    this.see();
  }

  // Pushes with `newtons` for `duration_s` from the next control step on, `degrees` counter-clockwise from the heading.
  push(newtons, degrees, duration_s) {
    this.planned = { newtons, radians: (degrees * Math.PI) / 180, duration_s, from: this.seconds };
    this.force = null;
  }

  step() {
    const observation = this.observe();
    const action = this.policy.act(observation);
    this.simulate(this.targets(action));
    this.read();
    this.steps += 1;
    this.see();
    this.fell = this.fell || this.hasFallen();
    return { observation, action };
  }

  targets(action) {
    const { bound, radians, centre } = this.options.action;
    const { near, aims } = this.prospect;
    const base = centre ?? aims;
    const branch = this.reference.hinge_joints && nearestHinges(near, this.coordinates, this.reference.triples);
    return base.map((angle, i) => {
      const offset = Math.min(Math.max(action[i], -bound), bound) * radians[i];
      return branch ? branch.shift[i] + branch.sign[i] * angle + branch.sign[i] * offset : angle + offset;
    });
  }

  simulate(targets) {
    const { mujoco, model, data } = this;
    const wrench = data.xfrc_applied.fill(0), force = this.pushing();
    data.ctrl.set(targets);
    data.qacc_warmstart.fill(0);
    if (force) wrench.set(force, 6 * this.pushBody);
    data.time = 0;
    this.touched = new Array(data.sensordata.length).fill(false);
    for (let substep = 0; substep < this.options.substeps; substep++) {
      mujoco.mj_step(model, data);
      data.sensordata.forEach((found, body) => { if (found > 0) this.touched[body] = true; });
    }
    // When a simulation diverges the engine resets the state to time 0.
    this.diverged = !(Math.abs(data.time - 1 / this.options.control_hz) < 1e-6);
  }

  // Force of the present push, which keeps its first direction; null without one.
  pushing() {
    const planned = this.planned;
    if (!planned) return null;
    if (this.seconds - planned.from >= planned.duration_s - 1e-9) {
      this.planned = this.force = null;
    } else if (!this.force) {
      const [w, x, y, z] = this.data.qpos.slice(3, 7);
      const [cosine, sine] = unit(1 - 2 * (y * y + z * z), 2 * (x * y + w * z));
      const along = Math.cos(planned.radians), across = Math.sin(planned.radians);
      this.force = [cosine * along - sine * across, sine * along + cosine * across, 0].map((x) => planned.newtons * x);
    }
    return this.force;
  }

  // Reads the state through the sensors of the kinematics model.
  read() {
    const { mujoco, kinematics, pose } = this;
    pose.qpos.set(this.data.qpos);
    pose.qvel.set(this.data.qvel);
    mujoco.mj_kinematics(kinematics, pose);
    mujoco.mj_comPos(kinematics, pose);
    mujoco.mj_comVel(kinematics, pose);
    mujoco.mj_sensorPos(kinematics, pose);
    mujoco.mj_sensorVel(kinematics, pose);
    this.sensors = Float64Array.from(pose.sensordata);
    this.root = this.sensors.slice(BODIES_AT, BODIES_AT + 3);
    this.facing = unit(this.sensors[ROOT_AT], this.sensors[ROOT_AT + 1]);
    const qpos = this.data.qpos;
    this.coordinates = Float64Array.from(
      this.options.coordinates.flatMap(({ at, ball }) => (ball ? rotationVector(qpos.slice(at, at + 4)) : [qpos[at]])));
    this.rates = this.sensors.slice(RATE_SENSORS_AT, BODY_VECTORS_AT);
  }

  // Looks up the reference at the present time; at the start of a cycle it moves to the character.
  see() {
    const { reference, options } = this;
    const { cycles } = reference.locate(this.time);
    if (this.steps && options.root_sync && cycles > this.cycle) {
      const place = reference.pose(this.time);
      this.origin = [this.root[0] - place[0], this.root[1] - place[1], 0];
      this.cycle = cycles;
    }
    this.prospect = reference.look(this.time, options.ahead_s, this.origin);
  }

  hasFallen() {
    const { forbidden, max_deviation_m } = this.options.falls;
    if (this.diverged || this.touched.some((touches, body) => touches && forbidden[body])) return true;
    if (max_deviation_m === null) return false;
    const aims = this.reference.bodyPositions(this.time, this.origin);
    return forbidden.some((_, body) => {
      const apart = [0, 1, 2].map((axis) => this.sensors[BODIES_AT + 3 * body + axis] - aims[3 * body + axis]);
      return Math.hypot(...apart) > max_deviation_m;
    });
  }

  // The observation: named blocks side by side, in the heading frame of the root (envs/task/observations.py).
  observe() {
    const { sensors, root, prospect } = this;
    const branch = this.reference.hinge_joints && nearestHinges(this.coordinates, prospect.near, this.reference.triples);
    const turned = (values, at, from = [0, 0, 0]) => {
      const [cosine, sine] = this.facing;
      const x = values[at] - from[0], y = values[at + 1] - from[1];
      return [x * cosine + y * sine, y * cosine - x * sine, values[at + 2] - from[2]];
    };
    const vectors = (values, at, count) => Array.from({ length: count }, (_, i) => turned(values, at + 3 * i)).flat();
    const beside = [root[0], root[1], 0];
    const blocks = {
      root: () => [root[2], ...vectors(sensors, ROOT_AT, 4)],
      joints: () => [
        ...rewrite(this.coordinates, branch), ...this.rates.map((rate, i) => (branch ? branch.sign[i] * rate : rate)),
      ],
      key_positions: () => [0, 1, 2, 3].flatMap((i) => turned(sensors, POINTS_AT + 3 * i, beside)),
      bodies: () => this.options.falls.forbidden.flatMap((_, body) => [
        ...turned(sensors, BODIES_AT + 3 * body, root), ...vectors(sensors, BODY_VECTORS_AT + 12 * body, 4),
      ]),
      phase: () => prospect.circle,
      targets: () => prospect.later.flatMap((later) => [
        ...turned(later.vectors, 0, root), ...vectors(later.vectors, 3, 2), ...later.coordinates,
      ]),
    };
    return Float32Array.from(this.options.observation_blocks.flatMap((name) => blocks[name]()));
  }
}

function unit(x, y) {
  const length = Math.sqrt(x * x + y * y);
  return length < 1e-9 ? [1, 0] : [x / length, y / length];
}

// Axis times angle of a unit quaternion, with an angle of at most pi.
function rotationVector(rotation) {
  const [w, x, y, z] = rotation[0] < 0 ? rotation.map((value) => -value) : rotation;
  const sine = Math.hypot(x, y, z);
  const factor = sine < 1e-9 ? 2 : (2 * Math.atan2(sine, w)) / sine;
  return [factor * x, factor * y, factor * z];
}
