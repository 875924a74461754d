import { demoImport } from './demo-import.js'
import { start } from './server.js'

// The example server, with an import that makes progress while you watch.
await start(process.env, process.stdout, process.stderr, demoImport, process.argv.slice(2))
