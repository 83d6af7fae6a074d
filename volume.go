package cove

import "time"

// Volume is the record of a named volume.
type Volume struct {
	Schema    int               `json:"schema"`
	Name      string            `json:"name"`
	Driver    string            `json:"driver"` // local
	Created   time.Time         `json:"created"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // type, device, o
	Anonymous bool              `json:"anonymous,omitempty"`
	Intent    Intent            `json:"intent,omitempty"`
	// NeedsCopyUp is true until a first container has filled the volume
	// from its image.
	NeedsCopyUp bool `json:"needsCopyUp,omitempty"`
	UID         int  `json:"uid,omitempty"`
	GID         int  `json:"gid,omitempty"`
}
