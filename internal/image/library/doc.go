// Package library is the thin wall before go.podman.io/common/libimage,
// go.podman.io/image and go.podman.io/storage. Images and layers live in the
// containers/storage store that podman, buildah and skopeo use: what they put
// there cove runs, and the reverse. No type of those libraries crosses the
// door except [image.ImageData], which is plain data.
//
// Nothing is opened before it is needed. The start path, [Store.Resolve],
// does not open the library's store at all while the store's last-write mark
// stands where it stood when cove's own index (package index) was made.
//
// A container's writable layer is not in containers/storage; what keeps an
// image's layers from being deleted by other tools is a pin, one per image
// (see pin.go).
package library
