// Evaluates requests as IAM does: a list of simulations on standard input, a list of answers on
// standard output: Allowed, ImplicitlyDenied, ExplicitlyDenied, or why it cannot be asked.
import { runSimulation } from '@cloud-copilot/iam-simulate'
import { readFileSync } from 'node:fs'

// The evaluator (0.1.173) drops condition keys whose variable part follows a colon, so an encryption
// context goes in, in policies and requests alike, as a key whose variable part follows a slash.
const given = readFileSync(0, 'utf8').replaceAll('"kms:EncryptionContext:', '"aws:PrincipalTag/')

const answers = []
for (const simulation of JSON.parse(given)) {
  const found = await runSimulation(simulation, {})
  answers.push(found.resultType === 'error' ? JSON.stringify(found.errors) : found.overallResult)
}
process.stdout.write(JSON.stringify(answers))
