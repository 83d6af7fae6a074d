package cove

// Status is what a container is doing, in podman's words. It is derived from
// the record, the run file and the kernel each time it is asked for; it is
// never stored.
type Status string

// The statuses.
const (
	Created  Status = "created"  // recorded, never started
	Running  Status = "running"  // its init lives
	Paused   Status = "paused"   // its cgroup is frozen
	Stopping Status = "stopping" // asked to stop, init still lives
	Exited   Status = "exited"   // init ended; the exit is recorded
	Removing Status = "removing" // the record waits for its remains to go
	Unknown  Status = "unknown"  // what was recorded of it cannot be read
)

// Intent is what a container's record says is under way. It is written before
// the first side effect, so that whoever finds it can finish or undo.
type Intent string

// The intents.
const (
	Settled      Intent = ""         // nothing is under way
	BeingRemoved Intent = "removing" // resources may be half-gone; only forward
)

// intentMoves is the table of legal changes of intent.
var intentMoves = map[Intent][]Intent{
	Settled:      {BeingRemoved},
	BeingRemoved: {},
}

// MayMove reports whether a record's intent may change from one to the other.
func MayMove(from, to Intent) bool {
	if from == to {
		return true
	}
	for _, t := range intentMoves[from] {
		if t == to {
			return true
		}
	}
	return false
}

// Desired is what users want of a container. Only users set it.
type Desired string

// The desires.
const (
	DesireStop Desired = "stop"
	DesireRun  Desired = "run"
)
