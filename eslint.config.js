import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['dist', 'dist-server', 'node_modules', '.cache', '.tap', 'coverage'] }),
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      // `import { type A } from 'a'` would load the module at run time.
      '@typescript-eslint/no-import-type-side-effects': 'error'
    }
  },
  {
    files: ['deploy/mongo-role.js'],
    languageOptions: { globals: { db: 'readonly', print: 'readonly', passwordPrompt: 'readonly' } }
  }
]
