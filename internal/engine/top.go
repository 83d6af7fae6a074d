package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/cgroup"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/top"
)

// Top gives a header row and one row per process of a running container.
// Descriptors are podman's, each may hold several, joined by commas; anything
// else is passed to the container's own ps.
func (e *Engine) Top(ctx context.Context, nameOrID string, descriptors []string) ([][]string, error) {
	c, err := e.Container(ctx, nameOrID, false)
	if err != nil {
		return nil, err
	}
	if c.Run.PID == 0 {
		return nil, cove.E("", "", cove.WrongStatus, errors.New("top can only be used on running containers"))
	}
	if f, err := e.foreign(&c.Container); err == nil && f != nil && ownKernel(f.Runtime[0]) {
		return e.innerPs(ctx, &c, innerColumns(descriptors))
	}
	columns, err := top.Choose(descriptors)
	if err != nil {
		rows, perr := e.innerPs(ctx, &c, descriptors)
		if perr != nil {
			return nil, cove.E("", "", cove.KindOf(err), fmt.Errorf("%w; and the container's ps: %w", err, perr))
		}
		return rows, nil
	}
	pids, err := e.pids(&c)
	if err != nil {
		return nil, err
	}
	return columns.Rows(c.Run.PID, pids, e.conf.Rootless), nil
}

// innerColumns asks a ps for the columns of descriptors, where only it sees the
// container's processes. Without any it is for the ones that every ps knows.
func innerColumns(descriptors []string) []string {
	if len(descriptors) == 0 {
		return []string{"-o", "user,pid,ppid,tty,args"}
	}
	if _, err := top.Choose(descriptors); err != nil {
		return descriptors
	}
	return []string{"-o", strings.Join(descriptors, ",")}
}

// psPatience is what the ps of a container may take: it is the container's program.
const psPatience = 30 * time.Second

// innerPs asks the ps of the container itself.
func (e *Engine) innerPs(ctx context.Context, c *Container, args []string) ([][]string, error) {
	var words []string
	for _, a := range args {
		words = append(words, strings.Fields(a)...)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, psPatience, cove.E("", "", cove.Unavailable, fmt.Errorf("ps of the container did not end within %s", psPatience)))
	defer cancel()
	var out, errs limitedBuffer
	r, err := e.Exec(ctx, c.ID, ExecSpec{Command: append([]string{"ps"}, words...)}, AttachOptions{Streams: Streams{Out: &out, Err: &errs}, NoStdin: true})
	if out.full.Load() || errs.full.Load() {
		return nil, cove.E("", "", cove.Invalid, fmt.Errorf("ps of the container says more than %d bytes", maxPs))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if r.ExitCode != 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		return nil, cove.E("", "", cove.Invalid, fmt.Errorf("exit code %d: %s", r.ExitCode, top.Printable(line)))
	}
	return psRows(out.String()), nil
}

// psRows splits what ps has printed: the last column may hold blanks.
func psRows(text string) [][]string {
	var rows [][]string
	width := 0
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fields := strings.Fields(top.Printable(line))
		if width == 0 {
			width = len(fields)
		}
		if width > 0 && len(fields) > width {
			fields = append(fields[:width-1:width-1], strings.Join(fields[width-1:], " "))
		}
		rows = append(rows, fields)
	}
	return rows
}

// maxPs is more than the processes of any container take to be shown, in bytes.
const maxPs = 16 << 20

// limitedBuffer takes maxPs bytes and fails then.
type limitedBuffer struct {
	bytes.Buffer
	full atomic.Bool // an exec that is given up may still be read from
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxPs {
		b.full.Store(true)
		return 0, unix.EFBIG
	}
	return b.Buffer.Write(p)
}

// pids lists the processes of a running container: those of its cgroup or,
// where it could not have one, those of its process namespace. One that shares
// the host's has all that descend from its init.
func (e *Engine) pids(c *Container) ([]int, error) {
	dirs, err := e.cgroupDirs(&c.Container)
	if err != nil {
		return nil, err
	}
	if len(dirs) > 0 {
		return cgroup.Pids(dirs)
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, cove.E("list processes", c.Name, cove.Internal, err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	inner, err2 := os.Readlink("/proc/" + strconv.Itoa(c.Run.PID) + "/ns/pid")
	if err = errors.Join(err, err2); err != nil {
		return nil, cove.E("list processes", c.Name, cove.Internal, err)
	}
	members := map[int]bool{c.Run.PID: true}
	for again := true; again; {
		again = false
		for _, entry := range all {
			pid, err := strconv.Atoi(entry.Name())
			if err != nil || members[pid] {
				continue
			}
			if inner == own {
				members[pid] = members[procfs.Parent(pid)]
			} else if ns, err := os.Readlink("/proc/" + entry.Name() + "/ns/pid"); err == nil {
				members[pid] = ns == inner
			}
			again = again || inner == own && members[pid]
		}
	}
	var pids []int
	for pid, is := range members {
		if is {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
