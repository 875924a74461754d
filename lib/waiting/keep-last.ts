/**
 * Creates a function that returns the result of `make`, or the last result when the key has the same values as the last one. Most polls get
 * the same reply as the poll before (docs/performance.md).
 */
export function keepLast<Result> (): (key: readonly unknown[], make: () => Result) => Result {
  let last: { key: readonly unknown[], result: Result } | undefined
  return (key, make) => {
    if (last === undefined || !key.every((value, index) => value === last?.key[index])) last = { key, result: make() }
    return last.result
  }
}
