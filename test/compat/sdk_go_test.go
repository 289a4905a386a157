package compat

import (
	"fmt"
	"testing"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
)

// sdkRequest carries the parameters of the actions below; the SDK finds their names in the tags.
type sdkRequest struct {
	*tchttp.BaseRequest
	QueueName     *string   `name:"queueName"`
	MsgBody       *string   `name:"msgBody"`
	MsgBodies     []*string `name:"msgBody"`
	ReceiptHandle *string   `name:"receiptHandle"`
	NumOfMsg      *uint64   `name:"numOfMsg"`
	PollingWait   *uint64   `name:"pollingWaitSeconds"`
	RewindSeconds *int64    `name:"rewindSeconds"`

	TopicName        *string   `name:"topicName"`
	SubscriptionName *string   `name:"subscriptionName"`
	Protocol         *string   `name:"protocol"`
	Endpoint         *string   `name:"endpoint"`
	FilterTags       []*string `name:"filterTag"`
	MsgTags          []*string `name:"msgTag"`
}

type sdkResponse struct {
	*tchttp.BaseResponse
	MsgID       string    `json:"msgId"`
	Handle      string    `json:"receiptHandle"`
	Body        string    `json:"msgBody"`
	MsgInfoList []message `json:"msgInfoList"`
}

// TestTencentGoSDK lets Tencent's Go SDK sign and send actions of API 2.0, with both hash functions and both
// methods. It is made for API 3.0, so the actions are given by name.
func TestTencentGoSDK(t *testing.T) {
	addresses := startCluster(t, 1)
	for i, c := range []struct{ sign, method string }{{common.SHA1, "POST"}, {common.SHA256, "POST"}, {common.SHA1, "GET"}, {common.SHA256, "GET"}} {
		t.Run(c.sign+" "+c.method, func(t *testing.T) {
			p := profile.NewClientProfile()
			p.SignMethod = c.sign
			p.HttpProfile.Scheme, p.HttpProfile.Endpoint, p.HttpProfile.ReqMethod = "HTTP", addresses[0], c.method
			client := new(common.Client).Init("gz").WithSecretId(secretID, secretKey).WithProfile(p)
			name := fmt.Sprintf("sdk-%d", i)
			send := func(action string, r sdkRequest) *sdkResponse {
				t.Helper()
				r.BaseRequest = new(tchttp.BaseRequest).Init().WithApiInfo("cmq", "", action)
				r.QueueName = &name
				response := &sdkResponse{BaseResponse: &tchttp.BaseResponse{}}
				if err := client.Send(&r, response); err != nil {
					t.Fatalf("%s: %v", action, err)
				}
				return response
			}
			rewind, body, number := int64(600), "a&b=c d+你好", uint64(16)
			send("CreateQueue", sdkRequest{RewindSeconds: &rewind})
			id := send("SendMessage", sdkRequest{MsgBody: &body}).MsgID
			got := send("ReceiveMessage", sdkRequest{})
			if got.Body != body || got.MsgID != id || id == "" {
				t.Errorf("sent %q as %s, received %+v", body, id, got)
			}
			send("DeleteMessage", sdkRequest{ReceiptHandle: &got.Handle})
			send("BatchSendMessage", sdkRequest{MsgBodies: []*string{&body, &name}})
			if batch := send("BatchReceiveMessage", sdkRequest{NumOfMsg: &number}); len(batch.MsgInfoList) != 2 || batch.MsgInfoList[0].Body != body || batch.MsgInfoList[1].Body != name {
				t.Errorf("batch: %+v", batch)
			}

			protocol, tag := "queue", "a, b"
			send("CreateTopic", sdkRequest{TopicName: &name})
			send("Subscribe", sdkRequest{TopicName: &name, SubscriptionName: &name, Protocol: &protocol, Endpoint: &name, FilterTags: []*string{&name, &tag}})
			id = send("PublishMessage", sdkRequest{TopicName: &name, MsgBody: &body, MsgTags: []*string{&tag}}).MsgID
			got = send("ReceiveMessage", sdkRequest{PollingWait: &number})
			if got.Body != body || got.MsgID != id || id == "" {
				t.Errorf("published %q as %s, received %+v", body, id, got)
			}
			send("Unsubscribe", sdkRequest{TopicName: &name, SubscriptionName: &name})
			send("DeleteTopic", sdkRequest{TopicName: &name})
			send("DeleteQueue", sdkRequest{})
		})
	}
}
