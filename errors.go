package cove

import (
	"errors"
	"strings"
)

// Kind says what class of failure an [Error] is. Programs decide on the kind,
// never on the text.
type Kind uint8

// The kinds. Their exit codes are in internal/cli/exit.go.
const (
	Internal      Kind = iota // a fault of cove's or of the system below it
	NotFound                  // no such container, image, volume, network …: it was looked up and is not known
	Exists                    // the name or ID is taken
	InUse                     // something else depends on the object
	Invalid                   // the request, a file or a flag is malformed
	WrongStatus               // the container's status does not allow the verb
	Unsupported               // cove, or this host, cannot do that
	Unavailable               // a registry, port, device or resource is not to be had now
	Denied                    // permission, policy or signature refused it
	NotExecutable             // the container's command exists and cannot be executed (126)
	NoCommand                 // the container's command does not exist (127)
	NoFile                    // a file, directory, socket or cgroup is missing; whose it is may well be there
)

// Error is the one shape of cove's errors, after [io/fs.PathError]: what was
// being done, to which object, what class of failure and the cause. It prints
// as one line, "op object: cause".
type Error struct {
	Op     string // the verb: "create container", "pull image"; may be empty
	Object string // the object's name as the user knows it; may be empty
	Kind   Kind
	Err    error // the cause; never nil
}

// Errorf-free constructor: E says that op on object failed with kind because
// of cause.
func E(op, object string, kind Kind, cause error) *Error {
	return &Error{Op: op, Object: object, Kind: kind, Err: cause}
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.Object)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of the outermost [Error] in err's chain, Internal
// when there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err's kind is k. A nil err has no kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
