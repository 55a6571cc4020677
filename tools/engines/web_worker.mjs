// Serves onnxruntime-web (WebAssembly) on stdin and stdout; worker.py describes the protocol.
//
// The package is looked for in node_modules in the folder that MLIC_WEB_ENGINE names, or else in the current folder.
// Not by an import statement: that would look beside this file.

import fs, { readFileSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const LEVELS = { none: 'disabled', basic: 'basic', extended: 'extended', all: 'all' };
const ARRAYS = {
  float32: Float32Array,
  float16: globalThis.Float16Array ?? Uint16Array, // as the engine does
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  int8: Int8Array,
};

// What others print would break the protocol: the console through process.stdout, the engine through fs.writeSync.
// Node itself must not touch stdout either: it would make it non-blocking, and our own writeSync, which stays what it
// was, would fail on a full pipe.
Object.defineProperty(process, 'stdout', { get: () => process.stderr });
fs.writeSync = (file, ...rest) => writeSync(file === 1 ? 2 : file, ...rest);

let ort;
const sessions = [];

// Returns the answer's header, and its tensors by name.
async function answer(request, inputs) {
  switch (request.op) {
    case 'about':
      return [{ engine: `onnxruntime-web ${ort.env.versions.web} wasm` }, {}];
    case 'open':
      return [await open(request.path, request.options), {}];
    case 'run':
      return [{}, await sessions[request.id].run(inputs)];
    default:
      throw new Error(`request ${request.op} is unknown`);
  }
}

async function open(path, { optimization = 'all', threads = 1, ...unknown }) {
  if (!(optimization in LEVELS)) {
    throw new Error(`optimization ${optimization} is unknown; possible: ${Object.keys(LEVELS).join(', ')}`);
  }
  if (threads !== 1) throw new Error(`threads is ${threads}; onnxruntime-web has 1 under Node`);
  for (const name in unknown) throw new Error(`option ${name} is unknown`);
  const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(path)), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: LEVELS[optimization],
    logSeverityLevel: 3, // errors
  });
  sessions.push(session);
  return { id: sessions.length - 1, takes: types(session.inputMetadata), gives: types(session.outputMetadata) };
}

function types(metadata) {
  return Object.fromEntries(metadata.map(({ name, type }) => [name, type]));
}

// Returns `size` bytes of stdin in a buffer of their own, where arrays of any type may begin; null at its end.
function read(size) {
  const bytes = new Uint8Array(size);
  for (let done = 0; done < size; ) {
    const count = readSync(0, bytes, done, size - done);
    if (count === 0) return null;
    done += count;
  }
  return bytes;
}

function write(bytes) {
  for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
}

// Returns a request's header and its tensors by name; null at the end of stdin.
function readMessage() {
  const length = read(4);
  if (length === null) return null;
  const text = read(new DataView(length.buffer).getUint32(0, true));
  if (text === null) return null;
  const header = JSON.parse(new TextDecoder().decode(text));
  const tensors = {};
  for (const { name, dtype, shape } of header.inputs ?? []) {
    const values = shape.reduce((product, side) => product * side, 1);
    const bytes = read(values * ARRAYS[dtype].BYTES_PER_ELEMENT);
    if (bytes === null) return null;
    tensors[name] = new ort.Tensor(dtype, new ARRAYS[dtype](bytes.buffer), shape);
  }
  return [header, tensors];
}

function writeMessage(header, tensors) {
  const entries = Object.entries(tensors);
  if (entries.length) {
    header.outputs = entries.map(([name, tensor]) => ({ name, dtype: tensor.type, shape: tensor.dims }));
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  write(length);
  write(text);
  for (const [, { data }] of entries) write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

async function main() {
  ort = createRequire(resolve(process.env.MLIC_WEB_ENGINE ?? '.', 'any'))('onnxruntime-web');
  ort.env.wasm.numThreads = 1; // it has no more under Node
  for (let message = readMessage(); message !== null; message = readMessage()) {
    let header, tensors;
    try {
      [header, tensors] = await answer(...message);
    } catch (error) {
      [header, tensors] = [{ error: firstLine(error) }, {}];
    }
    writeMessage(header, tensors);
  }
}

// Errors that the engine throws need not be objects.
function firstLine(error) {
  return String(error?.message ?? error).trim().split('\n')[0];
}

try {
  await main();
} catch (error) {
  console.error(firstLine(error)); // Node's own report ends with its version; the parent shows the last line
  process.exitCode = 1;
}
