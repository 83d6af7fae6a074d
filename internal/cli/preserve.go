package cli

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/cove-engine/cove/internal/engine"
)

// preserveFlags are those that give a command descriptors of the caller's.
type preserveFlags struct {
	count uint
	list  []int
}

func (f *preserveFlags) flags(fs *pflag.FlagSet) {
	fs.UintVar(&f.count, "preserve-fds", 0, "Pass a number of additional file descriptors into the container")
	fs.IntSliceVar(&f.list, "preserve-fd", nil, "Pass a list of additional file descriptors to the container")
}

// value is which descriptors these are.
func (f *preserveFlags) value() ([]int, error) {
	keep := slices.Clone(f.list)
	for n := range f.count {
		keep = append(keep, 3+int(n))
	}
	for _, fd := range keep {
		if !engine.Inherited(fd) {
			return nil, fmt.Errorf("file descriptor %d is not available - the preserve-fds option requires that file descriptors must be passed", fd)
		}
	}
	slices.Sort(keep)
	return slices.Compact(keep), nil
}

// activation is what systemd's socket activation has for the command
// (sd_listen_fds(3)): descriptors, and the variables that tell of them. The
// command is the first process where it looks at them.
func (s surroundings) activation() (f preserveFlags, env []string) {
	if pid, _ := s.lookup("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
		return f, nil // another's
	}
	value, _ := s.lookup("LISTEN_FDS")
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return f, nil
	}
	for _, v := range s.env {
		if strings.HasPrefix(v, "LISTEN_FDS=") || strings.HasPrefix(v, "LISTEN_FDNAMES=") {
			env = append(env, v)
		}
	}
	f.count = uint(n)
	return f, append(env, "LISTEN_PID=1")
}
