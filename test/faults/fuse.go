//go:build linux

package faults

import (
	"fmt"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// deviceName is the one file of a oneFile, and deviceNode its number; deviceKind is what a mount table calls such a file
// system, behind "fuse.".
const (
	deviceName = "device"
	deviceNode = 2
	deviceKind = "device"
)

// oneFile is a file system in this process with a Device as its only file. A loop device on top makes a disk of it: its writes and
// flushes come here one by one, with no cache in between.
type oneFile struct {
	fuse.RawFileSystem // answers ENOSYS to every other request, which a kernel takes for "not here"
	device             *Device
}

// serve mounts a device's file system at dir; the file is dir/device.
func serve(device *Device, dir string) (*fuse.Server, error) {
	server, err := fuse.NewServer(&oneFile{fuse.NewDefaultRawFileSystem(), device}, dir, &fuse.MountOptions{
		DirectMountStrict: true, FsName: "cmq-device", Name: deviceKind, MaxWrite: 512 << 10, DisableXAttrs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("mount a device at %s: %w", dir, err)
	}
	go server.Serve()
	return server, server.WaitMount()
}

func (f *oneFile) attr(node uint64, a *fuse.Attr) {
	a.Ino, a.Mode, a.Nlink = node, syscall.S_IFDIR|0o700, 2
	if node == deviceNode {
		a.Mode, a.Nlink, a.Size, a.Blksize = syscall.S_IFREG|0o600, 1, uint64(f.device.size), 4096
	}
}

// Lookup implements fuse.RawFileSystem, as do the others.
func (f *oneFile) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != deviceName {
		return fuse.ENOENT
	}
	out.NodeId = deviceNode
	f.attr(deviceNode, &out.Attr)
	return fuse.OK
}

func (f *oneFile) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *oneFile) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if size, ok := in.GetSize(); ok && int64(size) != f.device.size {
		return fuse.Status(syscall.EPERM)
	}
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *oneFile) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

func (f *oneFile) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, err := f.device.read(buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	return fuse.ReadResultData(buf[:n]), fuse.Status(errno(err))
}

func (f *oneFile) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if err := f.device.write(data, int64(in.Offset)); err != nil {
		return 0, fuse.Status(errno(err))
	}
	return uint32(len(data)), fuse.OK
}

func (f *oneFile) Fsync(_ <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	return fuse.Status(errno(f.device.flush()))
}

func (f *oneFile) Flush(_ <-chan struct{}, _ *fuse.FlushIn) fuse.Status { return fuse.OK }
