"""Load machines that work together: agents on each of them, and the coordinator's crew, over NATS.

coordinator (RemoteCrew)                 NATS                     agent (one on each machine)
------------------------  chalkwire.load.POOL.call ------------>  answers `Here`: who it is, whether it is free
                          chalkwire.load.POOL.agent.SESSION --->  `Hire`, then a `Beat` a second, `Release`
orders, `Do`  ----------  chalkwire.load.POOL.run.CREW.SESSION.orders  ------------> workers
answers  <--------------  chalkwire.load.POOL.run.CREW.SESSION.answers  `Said`, `Gone`  <--- workers
"""
