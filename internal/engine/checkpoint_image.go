package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
)

// A checkpoint's image has the files of its archive in one layer, and says by
// podman's annotations what they were made with.
const (
	annotation        = "io.podman.annotations.checkpoint."
	annotationRuntime = annotation + "runtime.name"
)

// imageOfCheckpoint makes an image of the last checkpoint.
func (e *Engine) imageOfCheckpoint(ctx context.Context, h *held, o CheckpointOptions) error {
	about, err := e.aboutCheckpoint(ctx, &h.Container.Container)
	if err != nil {
		return err
	}
	var made error
	err = h.spooled(
		func(f *os.File) error { return e.writeCheckpoint(ctx, f, h, o) },
		func(f *os.File) {
			if _, made = f.Seek(0, io.SeekStart); made == nil {
				made = e.images.FromLayer(ctx, o.Image, f, about)
			}
		})
	if err = errors.Join(err, made); err != nil {
		return cove.E("make image of checkpoint of container", h.Name, fileKind(err), err)
	}
	return nil
}

// aboutCheckpoint are the annotations.
func (e *Engine) aboutCheckpoint(ctx context.Context, c *cove.Container) (map[string]string, error) {
	layout, err := e.cgroups()
	if err != nil {
		return nil, err
	}
	program, err := e.runtimeProgram(c.Spec.Runtime)
	if err != nil {
		return nil, err
	}
	cgroups := "v1"
	if layout.Unified {
		cgroups = "v2"
	}
	kernel, _ := procfs.Read("/proc/sys/kernel/osrelease", 256)
	host := distribution()
	about := map[string]string{}
	for key, value := range map[string]string{
		"name":                 c.Name,
		"rawImageName":         cmp.Or(c.Spec.Image, c.Image.Name),
		"rootfsImageID":        c.Image.ID,
		"rootfsImageName":      c.Image.Name,
		"podman.version":       "cove " + cove.Version,
		"criu.version":         criuVersion(programSays(ctx, "criu")),
		"runtime.name":         path.Base(c.Spec.Runtime),
		"runtime.version":      programSays(ctx, program),
		"host.arch":            runtime.GOARCH,
		"host.kernel":          strings.TrimSpace(string(kernel)),
		"cgroups.version":      cgroups,
		"distribution.name":    host.Distribution,
		"distribution.version": host.Version,
	} {
		if value != "" {
			about[annotation+key] = value
		}
	}
	return about, nil
}

// programSays is what a program answers to --version, "" for none.
func programSays(ctx context.Context, program string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// criuVersion is the number that CRIU's libraries make of "Version: 4.1.1", 40101.
func criuVersion(text string) string {
	var major, minor, patch int
	_, text, _ = strings.Cut(text, "Version: ")
	if n, _ := fmt.Sscanf(text, "%d.%d.%d", &major, &minor, &patch); n < 2 {
		return ""
	}
	return strconv.Itoa(major*10000 + minor*100 + patch)
}

// CheckpointImage tells whether names are of images that were made of checkpoints,
// of which no container has the name: all of them, or none. What is neither is an error.
func (e *Engine) CheckpointImage(ctx context.Context, names []string) (bool, error) {
	var others []string
	for _, name := range names {
		_, err := e.find(name)
		switch {
		case cove.Is(err, cove.NotFound):
			others = append(others, name)
		case err != nil:
			return false, nil // to be told by who looks for it
		}
	}
	if len(others) == 0 {
		return false, nil
	}
	if err := e.images.Ready(); err != nil {
		return false, err
	}
	for _, name := range others {
		data, err := e.images.Inspect(ctx, name)
		switch {
		case cove.Is(err, cove.NotFound):
			return false, cove.E("", "", cove.NotFound, errors.New("no such container or image: "+name))
		case err != nil:
			return false, err
		case data.Annotations[annotationRuntime] == "":
			return false, cove.E("", "", cove.Invalid, errors.New("image is not a checkpoint: "+data.ID))
		}
	}
	if len(others) < len(names) {
		return false, cove.E("", "", cove.Unsupported, errors.New("containers and images of checkpoints are not restored together by cove yet: name either"))
	}
	return true, nil
}
