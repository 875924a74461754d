import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

/** What a server process has used of its machine. */
export interface Usage {
  /** Seconds of all its threads, in user and kernel mode. */
  cpuSeconds: number
}

/** How a server process has fared meanwhile. */
export interface Health {
  /** Bytes of resident memory, at its peak, over what was resident when the process had settled. */
  peakMemory: number
  /** Milliseconds that the event loop came late, at most. */
  longestDelay: number
  /** Milliseconds that the event loop came late, in 99 of 100 samples at most. */
  delayP99: number
}

// On a thread of its own: it is just when the event loop stands still that memory grows.
const SAMPLER = `
  const { peak, isWatching } = require('node:worker_threads').workerData
  for (;;) {
    Atomics.wait(isWatching, 0, 0)
    Atomics.wait(isWatching, 0, 1, 5)
    peak[0] = Math.max(process.memoryUsage.rss(), peak[0])
  }
`

/** Measures the process that it runs in: what it uses, or how it fares, since watching that takes up to a fiftieth of a CPU. */
export class Meter {
  readonly #peak = new Float64Array(new SharedArrayBuffer(8))
  readonly #isWatching = new Int32Array(new SharedArrayBuffer(4))
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: 1 })
  #settledMemory = 0
  #cpuAtStart = process.cpuUsage()

  constructor () {
    const workerData = { peak: this.#peak, isWatching: this.#isWatching }
    new Worker(SAMPLER, { eval: true, execArgv: [], workerData }).unref()
  }

  /** Takes the memory as it is now for the start, over which the peak is measured. */
  async settle (): Promise<void> {
    await this.collect()
    this.#settledMemory = process.memoryUsage.rss()
  }

  /** Frees what is no longer needed, so that the garbage of one reply does not count for the next. */
  async collect (): Promise<void> {
    // One collection leaves what only the next can free.
    for (let times = 0; times < 3; times++) {
      globalThis.gc?.()
      await setTimeout(20)
    }
  }

  /** Starts to count what is used. */
  async startCount (): Promise<void> {
    this.#cpuAtStart = process.cpuUsage()
  }

  /** What has been used since the start. */
  async endCount (): Promise<Usage> {
    const { user, system } = process.cpuUsage(this.#cpuAtStart)
    return { cpuSeconds: (user + system) / 1e6 }
  }

  /** Starts to watch. */
  async startWatch (): Promise<void> {
    this.#peak[0] = process.memoryUsage.rss()
    this.#setWatching(true)
    this.#delay.reset()
    this.#delay.enable()
  }

  /** What has been seen since the start. */
  async endWatch (): Promise<Health> {
    // Until then the event loop has had no turn to see how late it is.
    await setTimeout(10)
    this.#setWatching(false)
    this.#delay.disable()
    return {
      peakMemory: Math.max(this.#peak[0] ?? 0, process.memoryUsage.rss()) - this.#settledMemory,
      longestDelay: this.#delay.max / 1e6,
      delayP99: this.#delay.percentile(99) / 1e6
    }
  }

  #setWatching (isWatching: boolean): void {
    Atomics.store(this.#isWatching, 0, Number(isWatching))
    Atomics.notify(this.#isWatching, 0)
  }
}
