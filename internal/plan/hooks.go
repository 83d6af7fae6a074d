package plan

// Hooks are the OCI hooks of a container, by the points of its life at which
// they run (runtime-spec, runtime.md "Lifecycle"). Init runs CreateContainer
// and StartContainer, whoever is outside the others; where another OCI
// runtime makes the container only Poststop is here.
type Hooks struct {
	Prestart        []Hook `json:"prestart,omitempty"`
	CreateRuntime   []Hook `json:"createruntime,omitempty"`
	CreateContainer []Hook `json:"createcontainer,omitempty"`
	StartContainer  []Hook `json:"startcontainer,omitempty"`
	Poststart       []Hook `json:"poststart,omitempty"`
	Poststop        []Hook `json:"poststop,omitempty"`
	// State is what they read, but for status and process.
	State HookState `json:"state,omitzero"`
}

// Outside tells whether init has to wait for hooks once it has mounted all.
func (h *Hooks) Outside() bool { return h != nil && len(h.Prestart)+len(h.CreateRuntime) > 0 }

// In gives the state at one moment.
func (h *Hooks) In(status string, pid int) HookState {
	s := h.State
	s.Status, s.PID = status, pid
	return s
}

// Hook is a program of somebody's that is told of a container.
type Hook struct {
	Path    string   `json:"path"`
	Args    []string `json:"args,omitempty"`
	Env     []string `json:"env,omitempty"`
	Timeout int      `json:"timeout,omitempty"` // seconds; 0 none
}

// HookState is the state of runtime-spec runtime.md, "State".
type HookState struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	PID         int               `json:"pid,omitempty"`
	Bundle      string            `json:"bundle"`
	Annotations map[string]string `json:"annotations,omitempty"`
}
