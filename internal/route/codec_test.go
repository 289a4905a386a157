package route

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/opencmq/cmq/internal/cmq"
)

// fill gives every field, however deep, a value other than zero, so that a field the codec does not know is
// noticed.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_000 + *n)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(*n%12) + 1)
	case reflect.Uint64, reflect.Uint32, reflect.Uint16:
		v.SetUint(uint64(*n))
	case reflect.Int, reflect.Int64:
		v.SetInt(-*n)
	default:
		panic("no value for " + v.Type().String())
	}
}

func TestRequestRoundTrip(t *testing.T) {
	var want cmq.Request
	n := int64(1000)
	fill(reflect.ValueOf(&want).Elem(), &n)
	set, got, err := decodeRequest(encodeRequest(77, &want))
	require.NoError(t, err)
	require.EqualValues(t, 77, set)
	require.Equal(t, &want, got)

	empty := &cmq.Request{Kind: cmq.KindStatus}
	_, got, err = decodeRequest(encodeRequest(0, empty))
	require.NoError(t, err)
	require.Equal(t, empty, got)
}

func TestReplyRoundTrip(t *testing.T) {
	var want cmq.Reply
	n := int64(2000)
	fill(reflect.ValueOf(&want).Elem(), &n)
	want.Errors[1] = nil
	got, err := decodeReply(encodeReply(&want))
	require.NoError(t, err)
	require.Equal(t, &want, got)

	got, err = decodeReply(encodeReply(&cmq.Reply{}))
	require.NoError(t, err)
	require.Equal(t, &cmq.Reply{}, got)
}

func TestRefusalsStayComparable(t *testing.T) {
	got, err := decodeReply(encodeReply(&cmq.Reply{Err: cmq.ErrHeapFull}))
	require.NoError(t, err)
	require.ErrorIs(t, got.Err, cmq.ErrHeapFull)
	require.Equal(t, cmq.ErrHeapFull.Error(), got.Err.Error())
}

func TestErrorsRoundTrip(t *testing.T) {
	_, err := decodeReply(encodeError(&cmq.NotLeaderError{Set: 7, Leader: 3}))
	var not *cmq.NotLeaderError
	require.ErrorAs(t, err, &not)
	require.Equal(t, cmq.NotLeaderError{Set: 7, Leader: 3}, *not)
	for _, want := range []error{cmq.ErrDropped, cmq.ErrUnknownOutcome, cmq.ErrBusy, cmq.ErrStopping} {
		_, err := decodeReply(encodeError(errors.Join(errors.New("set 7"), want)))
		require.ErrorIs(t, err, want)
	}
	_, err = decodeReply(encodeError(errors.New("set 7: something broke")))
	require.EqualError(t, err, "set 7: something broke")
}

func TestCutAndForeignPayloads(t *testing.T) {
	var q cmq.Request
	var p cmq.Reply
	n := int64(1)
	fill(reflect.ValueOf(&q).Elem(), &n)
	fill(reflect.ValueOf(&p).Elem(), &n)
	request, reply := encodeRequest(1, &q), encodeReply(&p)
	for i := range request {
		_, _, err := decodeRequest(request[:i:i])
		require.ErrorIs(t, err, errCodec)
	}
	for i := range reply {
		_, err := decodeReply(reply[:i:i])
		require.ErrorIs(t, err, errCodec)
	}
	request[0], reply[0] = 9, 9
	_, _, err := decodeRequest(request)
	require.ErrorContains(t, err, "version 9")
	_, err = decodeReply(reply)
	require.ErrorContains(t, err, "version 9")
}

func FuzzDecodeRequest(f *testing.F) {
	var q cmq.Request
	n := int64(1)
	fill(reflect.ValueOf(&q).Elem(), &n)
	f.Add(encodeRequest(1, &q))
	f.Add(encodeRequest(0, &cmq.Request{Kind: cmq.KindMeta, Payload: []byte("x")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, q, err := decodeRequest(data)
		if err != nil {
			return
		}
		set2, q2, err := decodeRequest(encodeRequest(set, q))
		require.NoError(t, err)
		require.Equal(t, set, set2)
		require.Equal(t, q, q2)
	})
}

func FuzzDecodeReply(f *testing.F) {
	var p cmq.Reply
	n := int64(1)
	fill(reflect.ValueOf(&p).Elem(), &n)
	f.Add(encodeReply(&p))
	f.Add(encodeError(&cmq.NotLeaderError{Set: 1, Leader: 2}))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeReply(data)
		if err != nil || p == nil {
			return
		}
		p2, err := decodeReply(encodeReply(p))
		require.NoError(t, err)
		require.Equal(t, p, p2)
	})
}

func BenchmarkForwardedSend(b *testing.B) {
	q := &cmq.Request{Kind: cmq.KindSend, Shard: 1 << 20, Bodies: [][]byte{make([]byte, 1024)}}
	b.ReportAllocs()
	for range b.N {
		if _, _, err := decodeRequest(encodeRequest(3, q)); err != nil {
			b.Fatal(err)
		}
		if _, err := decodeReply(encodeReply(&cmq.Reply{IDs: []cmq.MsgID{77}})); err != nil {
			b.Fatal(err)
		}
	}
}
