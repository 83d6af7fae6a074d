package cli

import (
	"context"
	"io"
	"io/fs"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/rootfs/changes"
)

// Engine is what the command line asks of the engine, one part per kind of
// object. *engine.Engine has it all; tests have a fake.
type Engine interface {
	// Defaults are containers.conf's that flags may turn off.
	Defaults() (engine.Defaults, error)
	ContainerEngine
	ImageEngine
	VolumeEngine
	NetworkEngine
	SystemEngine
	RegistryEngine
}

// ContainerEngine is the container verbs. A nameOrID is a name, a full ID or
// an unambiguous beginning of one.
type ContainerEngine interface {
	Create(ctx context.Context, spec cove.ContainerSpec, o engine.CreateOptions) (id string, warnings []string, err error)
	Run(ctx context.Context, spec cove.ContainerSpec, o engine.RunOptions) (engine.RunResult, error)
	Start(ctx context.Context, nameOrID string, o engine.StartOptions) (engine.RunResult, error)
	Stop(ctx context.Context, nameOrID string, o engine.StopOptions) error
	Restart(ctx context.Context, nameOrID string, o engine.StopOptions) error
	Kill(ctx context.Context, nameOrID, signal string) error
	Pause(ctx context.Context, nameOrID string) error
	Unpause(ctx context.Context, nameOrID string) error
	Remove(ctx context.Context, nameOrID string, o engine.RemoveOptions) error
	// CheckHealth runs the health check now.
	CheckHealth(ctx context.Context, nameOrID string) (healthy bool, err error)
	// Update changes limits and restart policy of a container as edit does.
	Update(ctx context.Context, nameOrID string, edit func(*cove.ContainerSpec) error) (id string, warnings []string, err error)
	Checkpoint(ctx context.Context, nameOrID string, o engine.CheckpointOptions) (engine.CheckpointResult, error)
	RestoreArchive(ctx context.Context, path string, o engine.ImportOptions) (engine.CheckpointResult, error)
	CheckpointImage(ctx context.Context, names []string) (bool, error)
	Restore(ctx context.Context, nameOrID string, o engine.RestoreOptions) (engine.CheckpointResult, error)
	Wait(ctx context.Context, nameOrID string, o engine.WaitOptions) (int, error)
	Rename(ctx context.Context, nameOrID, newName string) error
	// Cleanup takes down what a container's run has left; of that run only if
	// it is not 0, and then the restart policy is applied.
	Cleanup(ctx context.Context, nameOrID string, run uint64) error

	List(ctx context.Context, o engine.ListOptions) ([]engine.Container, error)
	// Container looks one up exactly; size asks for SizeRw and SizeRootFs.
	Container(ctx context.Context, nameOrID string, size bool) (engine.Container, error)

	// Logs calls each for every line in order; an error of each ends it.
	Logs(ctx context.Context, nameOrID string, o engine.LogOptions, each func(engine.LogLine) error) error
	Exec(ctx context.Context, nameOrID string, spec engine.ExecSpec, o engine.AttachOptions) (engine.ExecResult, error)
	Attach(ctx context.Context, nameOrID string, o engine.AttachOptions) (engine.RunResult, error)
	// Top gives a header row and one row per process.
	Top(ctx context.Context, nameOrID string, descriptors []string) ([][]string, error)
	// Stats takes one sample of each named container, of every running one
	// without names, of every one with all.
	Stats(ctx context.Context, nameOrIDs []string, all bool) ([]engine.Stats, error)
	// PruneContainers removes what has ended and gives IDs and, at the same
	// places, the bytes that each gave back.
	PruneContainers(ctx context.Context, filters map[string][]string) (ids []string, sizes []int64, err error)

	// Diff lists what a container or image has changed, by path.
	Diff(ctx context.Context, nameOrID string, o engine.DiffOptions) ([]changes.Change, error)
	// Commit makes an image of a container and gives its ID.
	Commit(ctx context.Context, nameOrID string, o engine.CommitOptions) (string, error)
	// Export writes a container's root file system as a tar stream.
	Export(ctx context.Context, nameOrID string, w io.Writer) error
	// StatPath looks at a path inside a container, stopped or not, without
	// following a final symbolic link; its target is the second result.
	StatPath(ctx context.Context, nameOrID, path string) (fs.FileInfo, string, error)
	// CopyFrom gives path as a tar stream whose first entry is path's last
	// element, as docker's archive interface does. The caller closes it.
	CopyFrom(ctx context.Context, nameOrID, path string) (io.ReadCloser, error)
	// CopyTo unpacks a tar stream into the directory dir. With keepOwner
	// the stream's owners stay, else the container's user owns all; with
	// overwrite a directory may replace a file and the reverse.
	CopyTo(ctx context.Context, nameOrID, dir string, archive io.Reader, keepOwner, overwrite bool) error
}
