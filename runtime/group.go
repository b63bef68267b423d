package runtime

import (
	"context"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/symm"
)

// Group is the ranks of an expert-parallel group. Dispatchers are built on it:
// all ranks build the same ones in the same order.
type Group interface {
	symm.Exchange
	// Device returns the GPU of a rank that lives in this process.
	Device(rank int) (driver.Device, error)
	// Collective returns the rank's communicator of the library of collectives,
	// made by all ranks together at the first call.
	Collective(ctx context.Context, rank int) (driver.Collective, error)
	// Leave gives release to the group, which calls it once no rank can still
	// use the memory of another: after every rank has left.
	Leave(rank int, release func() error) error
	// Status says how the group is, as seen here; it waits for nobody.
	Status() GroupStatus
}
