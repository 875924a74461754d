import { demoImport } from './demo-import.js'
import { start } from './server.js'

// Runs the import server with an import that makes progress.
await start(process.env, process.stdout, process.stderr, demoImport, process.argv.slice(2))
