import threading, time
from multiprocessing.connection import Listener

listener = Listener(("127.0.0.1", 6000))
def serve():
    try: listener.accept()
    except OSError as e: print("accept:", e)
t = threading.Thread(target=serve, name="acceptor")
t.start()
time.sleep(0.5)
listener.close()
t.join()
print("stopped")
