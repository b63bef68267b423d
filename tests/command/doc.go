// Package command tests the moegen command from outside, with scripts.
package command
