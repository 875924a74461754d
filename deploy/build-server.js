// Builds the import server into dist-server/: compiled JavaScript, static files, and a package.json with only the packages that the
// code imports. `npm ci` in that folder installs the versions in package-lock.json, which the tests ran with. The packages are read
// from the code, so that there is no list to keep up to date.
import { execFileSync } from 'node:child_process'
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))
const output = join(root, 'dist-server')
const readJson = name => JSON.parse(readFileSync(join(root, name), 'utf8'))

rmSync(output, { recursive: true, force: true })
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '--project', join(root, 'tsconfig.server.json')], { stdio: 'inherit' })
for (const folder of ['page', 'sample-import']) cpSync(join(root, 'examples', folder), join(output, 'examples', folder), { recursive: true })
cpSync(join(root, 'LICENSE'), join(output, 'LICENSE'))

const { version, license, engines, dependencies, devDependencies } = readJson('package.json')
const known = { ...devDependencies, ...dependencies }
const manifest = { name: 'import-file-data-server', version, private: true, license, type: 'module', engines, dependencies: {} }
for (const name of importedPackages()) {
  if (known[name] === undefined) throw new Error(`The server imports ${name}, which is not a dependency in package.json`)
  manifest.dependencies[name] = known[name]
}
writeFileSync(join(output, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
// npm removes unused packages from the lock file. It needs no network for that.
for (const file of ['package-lock.json', '.npmrc']) cpSync(join(root, file), join(output, file))
execFileSync('npm', ['install', '--package-lock-only', '--offline', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: output, stdio: 'inherit' })

/** The packages that the compiled code imports, sorted by name. */
function importedPackages () {
  const modules = readdirSync(output, { recursive: true })
    .filter(path => path.endsWith('.js') && !path.startsWith(join('examples', 'page', sep)))
    .flatMap(path => ts.preProcessFile(readFileSync(join(output, path), 'utf8'), true, true).importedFiles)
    .map(({ fileName }) => fileName)
    .filter(module => !module.startsWith('.') && !isBuiltin(module))
  return [...new Set(modules.map(module => module.split('/', module.startsWith('@') ? 2 : 1).join('/')))].sort()
}
