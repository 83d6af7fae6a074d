package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"
)

// unsupported is a flag of podman's or docker's that cove does not have. It
// is refused by its name, so that nobody takes it for a slip of the pen, and
// never ignored; values that ask for what cove does anyway are accepted.
type unsupported struct {
	name, short string
	bool        bool     // takes no value
	accept      []string // values that mean what cove does anyway
}

// refusedError is the error of an unsupported flag.
type refusedError struct{ name, value string }

func (e *refusedError) Error() string {
	if e.value != "" {
		return fmt.Sprintf("--%s=%s is not supported by cove yet", e.name, e.value)
	}
	return fmt.Sprintf("--%s is not supported by cove yet", e.name)
}

// String, Set and Type make an unsupported a [pflag.Value].
func (u unsupported) String() string { return "" }

func (u unsupported) Type() string {
	if u.bool {
		return "bool"
	}
	return "string"
}

func (u unsupported) Set(value string) error {
	if slices.Contains(u.accept, value) {
		return nil
	}
	if len(u.accept) > 0 && !u.bool {
		return &refusedError{u.name, value}
	}
	return &refusedError{name: u.name}
}

// refuse declares list, hidden, on fs.
func refuse(fs *pflag.FlagSet, list []unsupported) {
	for _, u := range list {
		if fs.Lookup(u.name) != nil {
			continue
		}
		f := fs.VarPF(u, u.name, u.short, "")
		f.Hidden = true
		if u.bool {
			f.NoOptDefVal = "true"
		}
	}
}
