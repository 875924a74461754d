// Creates a MongoDB user for the import server, who may only read four collections and list their indexes. Run it with mongosh as an
// administrator. It asks for the new user's password, unless IMPORT_PASSWORD is set:
//
//   mongosh 'mongodb://admin@localhost:27017/?authSource=admin' --file deploy/mongo-role.js
//
// Run it again after an upgrade of this file: it updates the role, and does not change the user. IMPORT_DATABASE is the name of
// Rocket.Chat's database, by default "rocketchat". Described in docs/rocket-chat.md.

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
  print('Updated the role importReader')
}

if (admin.getUser('importreader') === null) {
  admin.createUser({ user: 'importreader', pwd: IMPORT_PASSWORD || passwordPrompt(), roles: ['importReader'] })
  print('Created the user importreader')
} else {
  print('The user importreader already exists')
}
