// Package exchange tests the runtime from outside, on the emulator: what
// dispatchers refuse, how they fail, what they leave behind.
package exchange
