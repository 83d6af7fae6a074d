package plan

import "encoding/json"

// Foreign stands in a plan's place where another OCI runtime makes the
// container, or puts a process into it: what internal/ctrinit/drive has to do.
type Foreign struct {
	Version int `json:"v"`
	// Runtime is the program with its global arguments.
	Runtime []string `json:"runtime"`
	ID      string   `json:"id"`
	// Dir is the bundle: configuration, pid files, the runtime's log and its
	// state. It is made anew at each start.
	Dir string `json:"dir"`
	// Root is mounted for the runtime, in a mount namespace of the driver's.
	Root Root `json:"root,omitzero"`
	// Config is the OCI configuration, or for exec its process alone, but for
	// the user, HOME and the namespaces that come as descriptors.
	Config json.RawMessage `json:"config"`
	// Process has what is to be looked up inside: see [Process].
	Process  Process   `json:"process"`
	Accounts *Accounts `json:"accounts,omitempty"`
	// Chown are host paths, sources of mounts, that are given to the process's
	// user with all that is below them.
	Chown []string `json:"chown,omitempty"`
	// NoKeyring has the runtime leave the container in the caller's session keyring.
	NoKeyring bool `json:"nokeyring,omitempty"`
	// Hooks are those that are not in Config.
	Hooks *Hooks `json:"hooks,omitempty"`
}

// GuardFile is below the bundle and locked as long as a start with conmon waits
// for its guard to carry it out or to end it.
const GuardFile = "guard"
