import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Values } from './cases.js'

// Runs in a separate thread, because memory grows most while the event loop is blocked.
const SAMPLER = `
  const { peak, isWatching } = require('node:worker_threads').workerData
  for (;;) {
    Atomics.wait(isWatching, 0, 0)
    Atomics.wait(isWatching, 0, 1, 5)
    peak[0] = Math.max(process.memoryUsage.rss(), peak[0])
  }
`

/** Measures the current process. */
export class Meter {
  readonly #peak = new Float64Array(new SharedArrayBuffer(8))
  readonly #isWatching = new Int32Array(new SharedArrayBuffer(4))
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: 1 })
  #startMemory = 0
  #startCpu = process.cpuUsage()

  constructor () {
    const workerData = { peak: this.#peak, isWatching: this.#isWatching }
    new Worker(SAMPLER, { eval: true, execArgv: [], workerData }).unref()
  }

  /** Takes the current resident memory as the baseline of the peak. */
  async settle (): Promise<void> {
    await collectGarbage()
    this.#startMemory = process.memoryUsage.rss()
  }

  /** Starts to measure CPU time, after a garbage collection, so that the garbage of a round does not affect the next. */
  async count (): Promise<void> {
    await collectGarbage()
    this.#startCpu = process.cpuUsage()
  }

  /** Starts to measure memory and event-loop delay. This takes up to 2% of a CPU. */
  async watch (): Promise<void> {
    await collectGarbage()
    this.#peak[0] = process.memoryUsage.rss()
    this.#setWatching(true)
    this.#delay.reset()
    this.#delay.enable()
  }

  /** Returns the CPU time since `count`, or the memory and event-loop delay since `watch`. */
  async end (): Promise<Values> {
    if (Atomics.load(this.#isWatching, 0) === 0) {
      const { user, system } = process.cpuUsage(this.#startCpu)
      return { cpu: (user + system) / 1000 }
    }
    // The event loop needs a turn to record its last delay.
    await setTimeout(10)
    this.#setWatching(false)
    this.#delay.disable()
    return {
      peakMemory: (Math.max(this.#peak[0] ?? 0, process.memoryUsage.rss()) - this.#startMemory) / 2 ** 20,
      longestDelay: this.#delay.max / 1e6,
      delayP99: this.#delay.percentile(99) / 1e6
    }
  }

  #setWatching (isWatching: boolean): void {
    Atomics.store(this.#isWatching, 0, Number(isWatching))
    Atomics.notify(this.#isWatching, 0)
  }
}

// Repeated, because a collection can make more garbage collectable.
async function collectGarbage (): Promise<void> {
  for (let times = 0; times < 3; times++) {
    globalThis.gc?.()
    await setTimeout(20)
  }
}
