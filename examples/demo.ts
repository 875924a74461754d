import { demoImport } from './demo-import.js'
import { start } from './server.js'

// The example server, with an import that moves on while one watches.
await start(process.env, process.stdout, process.stderr, demoImport)
