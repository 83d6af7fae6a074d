package plan

// OCI is what a runtime spec can ask for and cove's own containers never do:
// only the OCI runtime's program sets it, for init and for exec.
type OCI struct {
	// Chroot: the container has no mount namespace of its own.
	Chroot bool `json:"chroot,omitempty"`
	// NoPivot: the root is on a ramfs that pivot_root(2) cannot leave.
	NoPivot bool `json:"nopivot,omitempty"`
	// Propagation is the root mount's own, seen from inside, with MS_REC that of
	// all mounts; 0 leaves it.
	Propagation uint64 `json:"propagation,omitempty"`
	// DevReadOnly: /dev, a tmpfs, becomes read-only once it is filled.
	DevReadOnly bool `json:"devro,omitempty"`
	// Keyring names the new session keyring; "" keeps the caller's.
	Keyring string `json:"keyring,omitempty"`
	// State is what the seccomp agent reads, without its status.
	State HookState `json:"state,omitzero"`
	// TimeOffsets are lines of timens_offsets, time_namespaces(7).
	TimeNS      bool     `json:"timens,omitempty"`
	TimeOffsets []string `json:"timeoffsets,omitempty"`
	// NotifyMetadata goes to the seccomp agent.
	NotifyMetadata string        `json:"notifymetadata,omitempty"`
	Personality    *uint64       `json:"personality,omitempty"`
	Scheduler      *Sched        `json:"scheduler,omitempty"`
	IOPriority     *int          `json:"iopriority,omitempty"` // ioprio_set(2)
	MemoryPolicy   *MemoryPolicy `json:"mempolicy,omitempty"`
	// Affinity are the processors of an exec once it is the command.
	Affinity []int `json:"affinity,omitempty"`
}

// Sched is struct sched_attr, sched_setattr(2).
type Sched struct {
	Policy   uint32 `json:"policy"`
	Flags    uint64 `json:"flags,omitempty"`
	Nice     int32  `json:"nice,omitempty"`
	Priority uint32 `json:"priority,omitempty"`
	Runtime  uint64 `json:"runtime,omitempty"`
	Deadline uint64 `json:"deadline,omitempty"`
	Period   uint64 `json:"period,omitempty"`
}

// MemoryPolicy is that of set_mempolicy(2).
type MemoryPolicy struct {
	Mode  int   `json:"mode"` // with its flags
	Nodes []int `json:"nodes,omitempty"`
}

// IDMap is one range of a user namespace's map, user_namespaces(7).
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Size    uint32 `json:"size"`
}

// IDMapping is the pair of maps of an idmapped mount, mount_setattr(2).
type IDMapping struct {
	UIDs      []IDMap `json:"uids,omitempty"`
	GIDs      []IDMap `json:"gids,omitempty"`
	Recursive bool    `json:"recursive,omitempty"`
}
