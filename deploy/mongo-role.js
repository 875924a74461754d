// Creates a MongoDB user for the import server: it may read exactly four collections, and see their indexes, and nothing else. To be
// run by mongosh as an administrator. It asks for the new user's password, unless IMPORT_PASSWORD has it:
//
//   mongosh 'mongodb://admin@localhost:27017/?authSource=admin' --file deploy/mongo-role.js
//
// Run it again after an upgrade of this file: the role is brought up to date, and the user is left as it is. IMPORT_DATABASE names
// Rocket.Chat's database when that is not "rocketchat". Described in docs/rocket-chat.md.

const { IMPORT_DATABASE = 'rocketchat', IMPORT_PASSWORD } = process.env
const admin = db.getSiblingDB('admin')
const privileges = ['users', 'rocketchat_permissions', 'rocketchat_import', 'rocketchat_import_data'].map(collection => ({
  resource: { db: IMPORT_DATABASE, collection }, actions: ['find', 'listIndexes']
}))

if (admin.getRole('importReader') === null) {
  admin.createRole({ role: 'importReader', privileges, roles: [] })
  print('Created the role importReader')
} else {
  admin.updateRole('importReader', { privileges, roles: [] })
  print('Brought the role importReader up to date')
}

if (admin.getUser('importreader') === null) {
  admin.createUser({ user: 'importreader', pwd: IMPORT_PASSWORD || passwordPrompt(), roles: ['importReader'] })
  print('Created the user importreader')
} else {
  print('The user importreader is there already')
}
