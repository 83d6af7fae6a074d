// Package cdi edits runtime specs for devices of the Container Device
// Interface, through the field's library. Its parsers take time to initialise:
// only the full program imports it.
package cdi

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/cove-engine/cove"
)

// Inject makes the edits that specifications in dirs, of which later ones count
// more, ask for devices by their qualified names. nodes tells where each device node
// of theirs is on the host, by its path inside: the spec has its number alone.
func Inject(s *specs.Spec, dirs, devices []string) (nodes map[string]string, err error) {
	defer func() {
		// The library does not survive every file: a kind "a/b" will do.
		if r := recover(); r != nil {
			err = cove.E("read CDI specifications", strings.Join(dirs, ", "), cove.Invalid, fmt.Errorf("one cannot be read by the library for it: %v", r))
		}
	}()
	if err := checkFiles(dirs); err != nil {
		return nil, cove.E("read CDI specification", "", cove.Invalid, err)
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, cove.E("read CDI specifications", "", cove.Invalid, err)
	}
	missing, err := cache.InjectDevices(s, devices...)
	if err == nil {
		return nodesOf(cache, devices), nil
	}
	if len(missing) > 0 {
		// Perhaps it is there, in a file that cannot be read as one.
		for _, why := range cache.GetErrors() {
			err = fmt.Errorf("%w: %w", err, errors.Join(why...))
		}
	}
	kind := cove.Invalid
	if errors.Is(err, os.ErrNotExist) { // which podman takes for a missing command
		kind = cove.NoCommand
	}
	// Parsers take several lines.
	return nil, cove.E("", "", kind, errors.New("setting up CDI devices: "+strings.Join(strings.Fields(err.Error()), " ")))
}

// maxFile is more than any specification has: for a file of YAML the library takes
// ninety times as much memory, and for one of this size four seconds.
const maxFile = 4 << 20

// checkFiles refuses what the library would read for ever, or wait for: it reads
// every file of a specification's name to its end.
func checkFiles(dirs []string) error {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // there need not be one; what it cannot read the library tells
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); ext != ".json" && ext != ".yaml" {
				continue
			}
			name := filepath.Join(dir, e.Name())
			switch st, err := os.Stat(name); {
			case err != nil || st.IsDir():
			case !st.Mode().IsRegular():
				return fmt.Errorf("%s: it is no regular file", name)
			case st.Size() > maxFile:
				return fmt.Errorf("%s: it has more than %d bytes", name, maxFile)
			}
		}
	}
	return nil
}

// nodesOf gives the nodes of devices and of the specifications that they are in.
func nodesOf(cache *cdi.Cache, devices []string) map[string]string {
	nodes := map[string]string{}
	for _, name := range devices {
		d := cache.GetDevice(name)
		for _, n := range slices.Concat(d.GetSpec().ContainerEdits.DeviceNodes, d.ContainerEdits.DeviceNodes) {
			nodes[n.Path] = cmp.Or(n.HostPath, n.Path)
		}
	}
	return nodes
}
