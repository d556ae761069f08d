/* Pages opened as files may not start web workers, which the search runs in: there a hidden frame does the work. */
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const page = frame.contentWindow
      window.addEventListener("message", (event) => {
        if (event.source !== page) return
        const message = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
      const opening = `
        postMessage = (data) => parent.postMessage(data, "*")
        importScripts = (...urls) => urls.reduce((done, url) => done.then(() => new Promise((resolve, reject) => {
          const script = document.createElement("script")
          script.src = url
          script.onload = resolve
          script.onerror = reject
          document.body.appendChild(script)
        })), Promise.resolve())`
      frame.contentDocument.open()
      frame.contentDocument.write(
        `<html><body><script>${opening}<` + `/script><script src="${url}"><` + `/script></body></html>`
      )
      frame.contentDocument.close()
      this.page = page
      this.frame = frame
      page.addEventListener("load", () => {
        this.ready = true
        this.waiting.forEach((data) => this.postMessage(data))
      })
    }
    postMessage(data) {
      if (!this.ready) this.waiting.push(data)
      else this.page.dispatchEvent(new MessageEvent("message", { data, source: window }))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
