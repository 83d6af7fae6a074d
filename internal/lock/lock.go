// Package lock is the door to the locks of objects: one lock per pod,
// container, volume or network, exclusive between all processes of the
// machine and released by the kernel when its holder dies.
//
// Locks are taken in one order, which [Ordered] checks in tests:
//
//	pod
//	└ its containers, by ID
//	  └ volumes, by name
//	    └ networks, by name
//	      └ the state store's transaction
//
// Nothing unbounded (pulls, hooks, plugins, users) is waited for under a
// lock, and every wait for a lock has a deadline: the context's.
package lock

import "context"

// Kind is what sort of object a lock is for. Kinds are taken in the order of
// their numbers.
type Kind uint8

// The kinds.
const (
	Pod Kind = iota + 1
	Container
	Volume
	Network
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Pod:
		return "pod"
	case Container:
		return "container"
	case Volume:
		return "volume"
	case Network:
		return "network"
	}
	return "object"
}

// Manager hands out locks. It may be used from several goroutines.
type Manager interface {
	// Lock waits for the object's lock until ctx ends: Unavailable then,
	// with ctx's cause below. NotFound when the object is gone, also when
	// it went while Lock waited. Locks are not recursive.
	Lock(ctx context.Context, k Kind, id string) (Held, error)
	// TryLock takes the lock if nobody has it; InUse otherwise.
	TryLock(ctx context.Context, k Kind, id string) (Held, error)
}

// Held is a lock that is held.
type Held interface {
	// Unlock releases the lock. It must be called once; a further call
	// does nothing.
	Unlock() error
}
