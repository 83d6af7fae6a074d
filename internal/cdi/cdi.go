// Package cdi edits runtime specs for devices of the Container Device
// Interface, through the field's library. Its parsers take time to initialise:
// only the full program imports it.
package cdi

import (
	"cmp"
	"errors"
	"fmt"
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
	// Parsers take several lines.
	return nil, cove.E("", "", cove.Invalid, errors.New("setting up CDI devices: "+strings.Join(strings.Fields(err.Error()), " ")))
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
