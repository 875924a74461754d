/**
 * A pure function that remembers its last result. Nearly all polls ask for what the last one asked for: making the same reply
 * again would take half as much CPU time again (docs/performance.md).
 *
 * @param make the function; it has the same number of arguments each time, which are told apart by `===`
 */
export function rememberLast<Arguments extends readonly unknown[], Result> (
  make: (...args: Arguments) => Result
): (...args: Arguments) => Result {
  let last: { args: Arguments, result: Result } | undefined
  return (...args) => {
    if (last === undefined || !isSame(args, last.args)) last = { args, result: make(...args) }
    return last.result
  }
}

function isSame (list: readonly unknown[], other: readonly unknown[]): boolean {
  for (let index = 0; index < list.length; index++) if (list[index] !== other[index]) return false
  return true
}
