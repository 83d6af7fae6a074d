package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/cove-engine/cove/internal/capability"
)

const allCaps = "ALL"

// capsLabel lists, in an image, the only capabilities that it needs.
const capsLabel = "io.containers.capabilities"

// normalCaps gives names in the form CAP_X, sorted, once each.
func normalCaps(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		n = strings.ToUpper(strings.TrimSpace(n))
		if n != allCaps {
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if _, ok := capability.Number(n); !ok {
				return nil, invalid("%q: unknown capability", n)
			}
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// mergeCaps adds to and drops from base. Dropping ALL leaves what was added;
// adding ALL starts from the bounding set.
func mergeCaps(base, add, drop, bounding []string) ([]string, error) {
	base, err := normalCaps(base)
	if err != nil {
		return nil, err
	}
	if drop, err = normalCaps(drop); err != nil {
		return nil, err
	}
	if add, err = normalCaps(add); err != nil {
		return nil, err
	}
	addAll, dropAll := slices.Contains(add, allCaps), slices.Contains(drop, allCaps)
	switch {
	case addAll && dropAll:
		return nil, invalid("adding all caps and removing all caps not allowed")
	case dropAll:
		return add, nil
	case addAll:
		base, add = bounding, nil
	}
	for _, d := range drop {
		if slices.Contains(add, d) {
			return nil, invalid("capability %q cannot be dropped and added", d)
		}
	}
	var out []string
	for _, c := range append(slices.Clone(base), add...) {
		if !slices.Contains(drop, c) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out, nil
}

// within keeps of caps those in the bounding set.
func within(caps, bounding []string) []string {
	out := []string{}
	for _, c := range caps {
		if slices.Contains(bounding, c) {
			out = append(out, c)
		}
	}
	return out
}

// capabilities sets all five sets. Root gets the whole list; another user gets
// only what was added by name, made ambient so that it survives exec. The
// bounding set holds the whole list either way, for set-user-ID programs.
func (b *builder) capabilities() error {
	bounding, err := normalCaps(b.host.BoundingCaps)
	if err != nil {
		// A newer kernel's capability has no name here: nobody gets it.
		bounding = within(capability.Sorted(), b.host.BoundingCaps)
	}
	list := bounding
	if !b.in.Privileged {
		merged, err := mergeCaps(b.c.BaseCapabilities(), b.in.CapAdd, b.in.CapDrop, bounding)
		if err != nil {
			return err
		}
		list = within(merged, bounding)
		if list, err = b.imageCaps(list); err != nil {
			return err
		}
	}
	caps := &specs.LinuxCapabilities{Bounding: list}
	if b.runsAsRoot() {
		caps.Effective, caps.Permitted = slices.Clone(list), slices.Clone(list)
	} else {
		added, err := mergeCaps(nil, b.in.CapAdd, nil, bounding)
		if err != nil {
			return err
		}
		// Never more than the bounding set: --cap-drop wins over an added ALL.
		added = within(within(added, bounding), list)
		caps.Effective, caps.Permitted = added, slices.Clone(added)
		caps.Inheritable, caps.Ambient = slices.Clone(added), slices.Clone(added)
	}
	b.out.Process.Capabilities = caps
	return nil
}

func (b *builder) runsAsRoot() bool {
	name, _, _ := strings.Cut(b.extra.User, ":")
	return name == "" || name == "root" || name == "0"
}

// imageCaps narrows list to what the image says it needs.
func (b *builder) imageCaps(list []string) ([]string, error) {
	label, ok := b.in.Labels[capsLabel]
	if !ok {
		label, ok = b.c.Image.Labels[capsLabel]
	}
	if !ok {
		return list, nil
	}
	if label == "" {
		return []string{}, nil
	}
	need, err := normalCaps(strings.Split(label, ","))
	if err != nil {
		return nil, err
	}
	var beyond []string
	for _, n := range need {
		if !slices.Contains(list, n) {
			beyond = append(beyond, n)
		}
	}
	if len(beyond) > 0 {
		b.warn("Capabilities requested by user or image are not allowed by default: %q", strings.Join(beyond, ","))
		return list, nil
	}
	return need, nil
}
